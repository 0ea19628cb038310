use std::ops::RangeInclusive;

use axum::extract::{self, FromRequestParts};
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// The parameters of the query string. An invalid one is answered as JSON, like every other error.
pub(super) struct Query<T>(pub(super) T);

/// The parameters of the path. An invalid one is answered as JSON, like every other error.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let query = extract::Query::try_from_uri(&parts.uri);
        query.map(|query| Self(query.0)).map_err(|error| ApiError::bad_request(error.body_text()))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = extract::Path::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|error| ApiError::bad_request(error.body_text()))
    }
}

/// Returns the parameter `limit`, or `default` without one.
pub(super) fn limit(found: Option<usize>, default: usize, expected: RangeInclusive<usize>) -> Result<usize, ApiError> {
    let limit = found.unwrap_or(default);
    let (least, most) = (expected.start(), expected.end());
    let message = || format!("`limit`: found {limit}, expected a number from {least} to {most}");
    if expected.contains(&limit) { Ok(limit) } else { Err(ApiError::bad_request(message())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_within_its_bounds() {
        let found = |found| limit(found, 30, 1..=100).map_err(|error| error.message);
        assert_eq!([found(None), found(Some(1)), found(Some(100))], [Ok(30), Ok(1), Ok(100)]);
        for wrong in [0, 101] {
            assert_eq!(found(Some(wrong)), Err(format!("`limit`: found {wrong}, expected a number from 1 to 100")));
        }
    }
}
