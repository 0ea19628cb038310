use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri, header};

use super::error::ApiError;
use crate::app::AppState;
use crate::{Scope, Token};

/// Requires a token of scope `ingest`, if there are tokens.
pub(crate) async fn ingest(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    match check_token(&state, request.headers(), Scope::Ingest) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Requires a token of scope `read`, if there are tokens.
pub(crate) async fn read(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    match check_token(&state, request.headers(), Scope::Read) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check_token(state: &AppState, headers: &HeaderMap, scope: Scope) -> Result<(), ApiError> {
    let tokens = &state.settings().tokens;
    if tokens.is_empty() {
        return Ok(());
    }
    let presented = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = presented.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let unauthorized = |message: &str| ApiError::new(StatusCode::UNAUTHORIZED, message);
    let bearer = bearer.ok_or_else(|| unauthorized("found no bearer token, expected `Authorization: Bearer …`"))?;
    let token = Token::find(tokens, bearer).ok_or_else(|| unauthorized("found an unknown token"))?;
    if token.scope != scope {
        let message = format!("this token is for `{}`, expected one for `{}`", token.scope.as_str(), scope.as_str());
        return Err(ApiError::new(StatusCode::FORBIDDEN, message));
    }
    Ok(())
}

/// Without tokens, accepts requests of this machine only. A website in a browser on this machine does not count as such: other
/// host names, which DNS rebinding could point here, and other origins are refused.
pub(crate) async fn own_host(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    if state.settings().tokens.is_empty()
        && let Err(error) = check_host(request.headers(), request.uri())
    {
        return error.into_response();
    }
    next.run(request).await
}

fn check_host(headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
    let forbidden = |message: String| Err(ApiError::new(StatusCode::FORBIDDEN, message));
    // Every host is checked: the header may be sent more than once, and differ from the URI.
    let texts = |name| headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let authority = uri.authority().map(|authority| authority.as_str().into());
    if let Some(host) = texts(header::HOST).chain(authority).find(|host| !is_local(host)) {
        return forbidden(format!(
            "found `Host: {host}`, expected localhost or a loopback address; configure `tokens` to allow others"
        ));
    }
    let is_own = |origin: &str| origin.split_once("://").is_some_and(|(_, host)| is_local(host));
    if let Some(origin) = texts(header::ORIGIN).find(|origin| !is_own(origin)) {
        return forbidden(format!(
            "found `Origin: {origin}`, expected an origin on this machine; configure `tokens` to allow others"
        ));
    }
    Ok(())
}

fn is_local(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    };
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn every_host_and_origin_is_checked_also_those_that_are_not_ascii() {
        let check = |name: header::HeaderName, values: &[&[u8]], uri: &'static str| {
            let values = values.iter().map(|value| (name.clone(), HeaderValue::from_bytes(value).unwrap()));
            check_host(&values.collect(), &Uri::from_static(uri))
        };
        let (host, origin) = (header::HOST, header::ORIGIN);
        assert!(check(host.clone(), &[b"localhost"], "/").is_ok());
        assert!(check(host.clone(), &[], "http://127.0.0.1:4318/").is_ok());
        assert!(check(origin.clone(), &[b"http://localhost"], "/").is_ok());
        for (name, values, uri) in [
            (host.clone(), &["évil.example".as_bytes()][..], "/"),
            (host.clone(), &[b"\xe9vil.example"], "/"),
            (host.clone(), &[b"localhost", b"evil.example"], "/"),
            (host, &[b"localhost"], "http://evil.example/"),
            (origin.clone(), &["http://évil.example".as_bytes()], "/"),
            (origin.clone(), &[b"\xff"], "/"),
            (origin, &[b"http://localhost", b"http://evil.example"], "/"),
        ] {
            let error = check(name, values, uri).unwrap_err();
            assert_eq!(error.status, StatusCode::FORBIDDEN, "{values:?} {uri}");
        }
    }

    #[test]
    fn only_localhost_and_loopback_addresses_are_local() {
        for (host, local) in [
            ("localhost", true),
            ("localhost:4318", true),
            ("127.0.0.1:4318", true),
            ("127.9.9.9", true),
            ("[::1]:4318", true),
            ("[::1]", true),
            ("evil.example:4318", false),
            ("localhost.evil.example", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(is_local(host), local, "{host}");
        }
    }
}
