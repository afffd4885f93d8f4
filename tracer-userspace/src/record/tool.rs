//! `Tool`: for which of an agent's tools something was sent, and how that is known.

use serde::{Deserialize, Serialize};

/// The agent's tool on whose behalf something was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Absent where it is one of `among`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Of this one call, where the agent numbers them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ToolKind>,
    pub attribution: Attribution,
    /// The packages from whose code the connection was made, the innermost first, if the workload
    /// has told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caller: Vec<String>,
    /// The calls of which it is one, where that is all that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub among: Vec<ToolCall>,
    /// There are more of them, or they are not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub among_cut: bool,
    /// Or none of them: for a part of the time none was open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub or_none: bool,
}

/// One call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ToolCall {
    pub name: String,
    pub call_id: String,
}

/// What a call is of.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ToolKind {
    #[default]
    Tool,
    Llm,
    Retriever,
    Scan,
    Other,
}

/// What an agent may use, as it says itself: also what it never does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retrievers: Vec<String>,
    /// Of which a call has begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub called: Vec<String>,
}

/// How it is known which tool it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attribution {
    /// The thread itself, or the process, said so.
    Exact,
    /// By the process.
    Process,
    /// By the time.
    Window,
    /// One of several; none is held responsible alone.
    Ambiguous,
}

impl Tool {
    /// Some tool's, and nothing more is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            name: None,
            call_id: None,
            kind: None,
            attribution: Attribution::Ambiguous,
            caller: Vec::new(),
            among: Vec::new(),
            among_cut: true,
            or_none: false,
        }
    }

    /// Those of which one is held responsible; none where it may have been any, or no tool at all.
    #[must_use]
    pub fn suspects(&self) -> Vec<&str> {
        match self.attribution {
            Attribution::Exact | Attribution::Process | Attribution::Window => {
                self.name.as_deref().into_iter().collect()
            }
            Attribution::Ambiguous if self.among_cut || self.or_none => Vec::new(),
            Attribution::Ambiguous => self.among.iter().map(|call| &*call.name).collect(),
        }
    }
}
