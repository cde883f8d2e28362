//! Lists: how much of one a command shows, and the way there page by page.
//!
//! A page of the API has 200 entries at most, and a filter that keeps little makes short ones; the command goes on
//! until it has what was asked for or the list ends.

use std::num::NonZeroUsize;

use serde_json::{Value, json};
use tradewind::api::{Control, in_path};

use super::Failure;

/// What the API gives at once.
const AT_ONCE: usize = 200;

#[derive(clap::Args)]
pub struct Paging {
    /// So many at most.
    #[arg(long, value_name = "N", default_value = "50")]
    limit: NonZeroUsize,
    /// Go on behind the list that ended with this.
    #[arg(long, value_name = "NEXT")]
    after: Option<String>,
}

impl Paging {
    /// The entries of the list at `path` that the filters keep, as one page: `items` and `next`.
    pub async fn walk(
        &self,
        node: &Control,
        path: &str,
        filters: &[(&str, Option<String>)],
    ) -> Result<Value, Failure> {
        let mut items = Vec::new();
        let mut next = self.after.clone();
        loop {
            let wanted = (self.limit.get() - items.len()).min(AT_ONCE);
            let paging = [("limit", Some(wanted.to_string())), ("after", next)];
            let all = filters.iter().cloned().chain(paging);
            let mut page = node.get(&format!("{path}{}", query(all))).await?;
            if let Value::Array(found) = page["items"].take() {
                items.extend(found);
            }
            next = page["next"].as_str().map(str::to_owned);
            if next.is_none() || items.len() >= self.limit.get() {
                return Ok(json!({ "items": items, "next": next }));
            }
        }
    }
}

/// What is named, as the query of a path; nothing for nothing.
pub fn query<'a>(parts: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let mut query = String::new();
    for (name, value) in parts {
        if let Some(value) = value {
            let mark = if query.is_empty() { '?' } else { '&' };
            query.push_str(&format!("{mark}{name}={}", in_path(&value)));
        }
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_what_is_named_and_nothing_else() {
        let some = |text: &str| Some(text.to_owned());
        let parts = [("a", some("x")), ("b", None), ("c", some("k:1 &=é"))];
        assert_eq!(query(parts), "?a=x&c=k%3A1%20%26%3D%C3%A9");
        assert_eq!(query([("b", None)]), "");
    }
}
