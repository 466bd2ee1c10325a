//! `feature.network.incoming.http_filter`: which requests the program gets.

use crate::decode::{JqProgram, JsonPathQuery, Pattern};
use crate::form::{choice, record};

record! {
    /// Which requests the program gets: one kind of filter, or several under `all_of` or `any_of`.
    pub struct HttpFilterConfig {
        /// Regex on a header written `Name: value`.
        pub header_filter: Pattern,
        /// jq program over the headers; the request is taken where it gives `true`.
        pub header_filter_jq: JqProgram,
        /// Regex on the path, then on path and query.
        pub path_filter: Pattern,
        /// The method, in upper or lower case.
        pub method_filter: String,
        /// A look into the body.
        pub body_filter: BodyFilterConfig,
        /// Filters that must all hold.
        pub all_of: Vec<HttpFilterPart>,
        /// Filters of which one must hold.
        pub any_of: Vec<HttpFilterPart>,
        /// The ports that are filtered; the others are not. Absent, all.
        pub ports: Vec<u16>,
    }
}

choice! {
    /// How a body is read.
    pub enum BodyKind {
        /// As JSON.
        Json = "json",
    }
}

record! {
    /// A look into the body.
    pub struct BodyFilterConfig {
        /// How the body is read.
        pub body: BodyKind,
        /// JSONPath (RFC 9535) to the values looked at.
        pub query: JsonPathQuery,
        /// Regex on each of them.
        pub matches: Pattern,
    }
}

record! {
    /// One filter of several: exactly one of `header`, `path`, `method`, `query`, or `body` with `query` and
    /// `matches`.
    pub struct HttpFilterPart {
        /// Regex on a header written `Name: value`.
        pub header: Pattern,
        /// Regex on the path.
        pub path: Pattern,
        /// The method.
        pub method: String,
        /// How the body is read.
        pub body: BodyKind,
        /// Beside `body` JSONPath to the values looked at; alone a regex on the URL's query.
        pub query: String,
        /// Beside `body`, regex on the values.
        pub matches: Pattern,
    }
}
