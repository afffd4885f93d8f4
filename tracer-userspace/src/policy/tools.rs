//! For which of an agent's tools something went out, as far as that is known.

use std::{collections::BTreeSet, fmt, sync::Arc};

use crate::record::Tool;

/// Letters of a tool's name.
const MAX_TOOL: usize = 128;

/// One of these, and of nothing else: a single one is certain. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tools(BTreeSet<Arc<str>>);

impl Tools {
    /// Certainly that one.
    #[must_use]
    pub fn one(name: &str) -> Self {
        Self::of([name].into_iter()).unwrap_or_else(|| Self(BTreeSet::new()))
    }

    /// One of them; `None` if there are none.
    pub fn of<'a>(names: impl Iterator<Item = &'a str>) -> Option<Self> {
        let cut = |name: &str| name.chars().take(MAX_TOOL).collect::<String>().into();
        let all: BTreeSet<Arc<str>> = names.map(cut).collect();
        (!all.is_empty()).then_some(Self(all))
    }

    /// What a record says; `None` where it may have been any tool, or none.
    #[must_use]
    pub fn told(tool: &Tool) -> Option<Self> {
        Self::of(tool.suspects().into_iter())
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }

    /// The one that it certainly is.
    #[must_use]
    pub fn only(&self) -> Option<&str> {
        let mut all = self.iter();
        all.next().filter(|_| all.next().is_none())
    }
}

impl fmt::Display for Tools {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<&str> = self.iter().collect();
        out.write_str(&all.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Attribution, ToolCall};

    fn among(names: &[&str]) -> Tool {
        let call = |name: &&str| ToolCall {
            name: (*name).to_owned(),
            call_id: "c".to_owned(),
        };
        Tool {
            among: names.iter().map(call).collect(),
            among_cut: false,
            ..Tool::unknown()
        }
    }

    #[test]
    fn two_calls_of_one_tool_are_that_tools() {
        let told = Tools::told(&among(&["Search", "Search"]));
        assert_eq!(told.as_ref().and_then(Tools::only), Some("Search"));
        let told = Tools::told(&among(&["Search", "Browse"]));
        assert_eq!(
            told.map(|tools| tools.to_string()).as_deref(),
            Some("Browse or Search")
        );
    }

    #[test]
    fn who_may_have_been_anybody_is_nobody() {
        assert_eq!(Tools::told(&Tool::unknown()), None);
        for doubt in [
            Tool {
                among_cut: true,
                ..among(&["a"])
            },
            Tool {
                or_none: true,
                ..among(&["a"])
            },
        ] {
            assert_eq!(Tools::told(&doubt), None);
        }
        // Of another tool's log, which names one and is not sure.
        let named = Tool {
            name: Some("a".to_owned()),
            ..among(&[])
        };
        assert_eq!(Tools::told(&named), None);
        let sure = Tool {
            attribution: Attribution::Window,
            ..named
        };
        assert_eq!(Tools::told(&sure), Some(Tools::one("a")));
    }
}
