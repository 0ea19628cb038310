use crate::Window;

/// Returns a name for an indicator that is not taken: `name`, then with its window (`response_latency_24h`), then with a number.
pub fn unique_name(name: &str, window: Window, taken: &[String]) -> String {
    let windowed = format!("{name}_{window}");
    let numbered = (2..).map(|number| format!("{windowed}_{number}"));
    let mut names = [name.to_owned(), windowed.clone()].into_iter().chain(numbered);
    names.find(|name| !taken.contains(name)).expect("the numbers are endless")
}
