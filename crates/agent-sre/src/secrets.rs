use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use sre_core::event::HttpRequest;

/// API keys and tokens whose form says what they are. What comes before one is group 1, the secret group 2.
static SECRET: LazyLock<Regex> = LazyLock::new(|| Regex::new(PATTERN).expect("a valid pattern"));

const PATTERN: &str = r"(?x)
    ((?-u:\b)|_)
    (
        sk-[0-9A-Za-z_-]{20,}                       # OpenAI, Anthropic, OpenRouter, DeepSeek, Langfuse
      | (?:gsk|hf|npm|r8)_[0-9A-Za-z]{30,}          # Groq, Hugging Face, npm, Replicate
      | (?:nvapi|pplx|tvly|xai)-[0-9A-Za-z_-]{20,}  # NVIDIA, Perplexity, Tavily, xAI
      | lsv2_(?:pt|sk)_[0-9a-f_]{32,}               # LangSmith
      | AIza[0-9A-Za-z_-]{35}                       # Google
      | A(?:KI|SI)A[0-9A-Z]{16}                     # AWS
      | gh[oprsu]_[0-9A-Za-z]{36,}                  # GitHub
      | github_pat_[0-9A-Za-z_]{22,}
      | glpat-[0-9A-Za-z_-]{20,}                    # GitLab
      | xox[a-z]-[0-9A-Za-z-]{15,}                  # Slack
      | [rs]k_(?:live|test)_[0-9A-Za-z]{16,}        # Stripe
      | sre_[0-9a-f]{64}                            # the service's own
      | eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]*  # JSON Web Token
      | [Bb]earer\ [0-9A-Za-z._~+/=-]{20,}
    )";

/// The length of the shortest secret, in bytes. Most names are shorter, and cost no more than this comparison.
const MIN_LENGTH: usize = 20;

/// Replaces every secret in a text.
pub(crate) fn replace(text: &mut String, replacement: impl Fn(&str) -> String) {
    if text.len() < MIN_LENGTH {
        return;
    }
    let replaced = SECRET.replace_all(text, |found: &Captures<'_>| {
        // Words that begin like a key have no digits.
        let is_random = found[2].bytes().any(|byte| byte.is_ascii_digit());
        if is_random { format!("{}{}", &found[1], replacement(&found[2])) } else { found[0].to_owned() }
    });
    if let Cow::Owned(replaced) = replaced {
        *text = replaced;
    }
}

/// Removes user, password, query and fragment from every URL in a text.
pub(crate) fn cut_urls(text: &mut String) {
    if text.contains("://") {
        let cut = |word| {
            if str::contains(word, "://") {
                HttpRequest::new(word).url_without_secrets().to_owned()
            } else {
                word.to_owned()
            }
        };
        *text = text.split(' ').map(cut).collect::<Vec<_>>().join(" ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_what_may_be_secret() {
        for (text, cut) in [
            ("GET https://bob:hunter2@api.example/x?token=s3cr3t", "GET api.example/x"),
            ("GET /orders?limit=5", "GET /orders?limit=5"),
            ("POST  https://api.example/a#b done", "POST  https://api.example/a done"),
        ] {
            let mut text = text.to_owned();
            cut_urls(&mut text);
            assert_eq!(text, cut);
        }
    }

    fn replaced(text: &str) -> String {
        let mut text = text.to_owned();
        replace(&mut text, |secret| format!("<{}>", secret.len()));
        text
    }

    #[test]
    fn secrets_of_known_forms_are_replaced_wherever_they_are() {
        let random = |length: usize| "0aB1cD2eF3".chars().cycle().take(length).collect::<String>();
        let hex = |length: usize| "0123456789abcdef".chars().cycle().take(length).collect::<String>();
        for secret in [
            format!("sk-{}", random(48)),
            format!("sk-proj-{}_{}-{}", random(40), random(20), random(60)),
            format!("sk-ant-api03-{}-{}", random(60), random(32)),
            "sk-lf-0f3a4b5c-1234-4abc-8def-0123456789ab".to_owned(),
            format!("hf_{}", random(34)),
            format!("gsk_{}", random(52)),
            format!("lsv2_pt_{}_{}", hex(32), hex(10)),
            format!("AIza{}", random(35)),
            "AKIAIOSFODNN7EXAMPLE".to_owned(),
            format!("ghp_{}", random(36)),
            format!("github_pat_{}_{}", random(22), random(59)),
            format!("glpat-{}", random(20)),
            "xoxb-123456789012-1234567890123-abcDEF".to_owned(),
            format!("sk_live_{}", random(24)),
            format!("sre_{}", hex(64)),
            format!("eyJ{}.eyJ{}.{}", random(20), random(40), random(43)),
            format!("Bearer {}", random(20)),
        ] {
            let hidden = format!("<{}>", secret.len());
            assert_eq!(replaced(&secret), hidden, "{secret}");
            for (before, after) in
                [("call_", ""), ("key=", "&limit=5"), ("401: `", "` is invalid"), ("ключ ", ", later")]
            {
                assert_eq!(replaced(&format!("{before}{secret}{after}")), format!("{before}{hidden}{after}"));
            }
            assert_eq!(replaced(&format!("{secret} {secret}")), format!("{hidden} {hidden}"));
        }
    }

    #[test]
    fn names_and_texts_without_secrets_stay() {
        for text in [
            "sk-learn-pipeline-classifier",
            "ask-the-0123456789-librarian",
            "risk-0123456789abcdef0123",
            "claude-sonnet-4-5-20250929",
            "sre_server_sender_lost_events_total",
            "hf_text_generation_with_llama_3",
            "0af7651916cd43dd8448eb211c80319c",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "the bearer of 100 messages was not found",
            "no model answered within 30 s",
        ] {
            assert_eq!(replaced(text), text);
        }
    }
}
