//! What is said on the socket, and what is answered. `docs/markers.md` is the contract. Pure.

use serde::{Deserialize, Serialize};

use crate::record::ToolKind;

/// The only one there is.
pub const VERSION: u64 = 1;
/// Bytes of a message, at most.
pub const MESSAGE: usize = 4096;
/// Bytes of a name or a call's id, at most.
pub const NAME: usize = 128;
/// Packages of `caller`, at most, and bytes of each.
const CALLERS: usize = 8;
const CALLER: usize = 64;

/// One message. Unknown keys are somebody's future.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Request {
    Hello(Hello),
    Begin(Begin),
    End { call: String },
    Use(Use),
    Shared,
    Unsaid,
    Settled,
}

#[derive(Debug, Deserialize)]
pub struct Hello {
    #[serde(default = "version")]
    pub v: u64,
    #[serde(default)]
    pub tools: Vec<String>,
    #[serde(default)]
    pub models: Vec<String>,
    #[serde(default)]
    pub retrievers: Vec<String>,
}

fn version() -> u64 {
    VERSION
}

#[derive(Debug, Deserialize)]
pub struct Begin {
    pub tool: String,
    pub call: String,
    #[serde(default)]
    pub kind: ToolKind,
    #[serde(default)]
    pub tid: Option<u32>,
    #[serde(default)]
    pub scope: Scope,
}

/// What else works on the thread of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Nothing, until its end.
    #[default]
    Thread,
    /// Other tasks of an event loop.
    Task,
    /// The call is all that the process is for.
    Process,
}

#[derive(Debug, Deserialize)]
pub struct Use {
    #[serde(default)]
    pub call: Option<String>,
    #[serde(default)]
    pub tid: Option<u32>,
    #[serde(default)]
    pub caller: Vec<String>,
    /// Takes back what was said of the thread before.
    #[serde(default)]
    pub inherit: bool,
}

/// Why a message changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    #[error("the message is not one JSON object that the protocol knows")]
    Malformed,
    #[error("a message has 4096 bytes at most")]
    TooLong,
    #[error("a name has 1 to 128 bytes, and a caller is 8 packages of 64 bytes at most")]
    BadName,
    #[error("this is version 1 of the protocol")]
    Version,
    #[error("this connection belongs to another process")]
    NotYours,
    #[error("there is no such thread in this process")]
    NoThread,
    #[error("a call of this id is open")]
    DuplicateCall,
    #[error("no call of this id is open")]
    UnknownCall,
    #[error("there is no room for more")]
    Limit,
}

impl Refusal {
    /// For programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed | Self::TooLong | Self::BadName => "malformed",
            Self::Version => "version",
            Self::NotYours => "not-yours",
            Self::NoThread => "no-thread",
            Self::DuplicateCall => "duplicate-call",
            Self::UnknownCall => "unknown-call",
            Self::Limit => "limit",
        }
    }
}

/// Reads one message.
///
/// # Errors
/// It is not one, or something in it is too long.
pub fn parse(message: &[u8]) -> Result<Request, Refusal> {
    let request = serde_json::from_slice(message).map_err(|_| Refusal::Malformed)?;
    let is_name = |name: &String| (1..=NAME).contains(&name.len());
    let is_fine = match &request {
        Request::Hello(hello) => {
            let names = hello.tools.iter().chain(&hello.models);
            names.chain(&hello.retrievers).all(is_name)
        }
        Request::Begin(begin) => is_name(&begin.tool) && is_name(&begin.call),
        Request::End { call } => is_name(call),
        Request::Use(wanted) => {
            let callers = &wanted.caller;
            let are_callers =
                callers.len() <= CALLERS && callers.iter().all(|one| one.len() <= CALLER);
            wanted.call.as_ref().is_none_or(is_name) && are_callers
        }
        Request::Shared | Request::Unsaid | Request::Settled => true,
    };
    is_fine.then_some(request).ok_or(Refusal::BadName)
}

/// The answer to one message.
#[must_use]
pub fn reply(outcome: Result<Done, Refusal>) -> Vec<u8> {
    match outcome {
        Ok(Done::Greeted) => format!("{{\"ok\":true,\"v\":{VERSION}}}").into_bytes(),
        Ok(Done::Fine) => b"{\"ok\":true}".to_vec(),
        Err(refusal) => {
            let (code, error) = (refusal.code(), refusal.to_string());
            serde_json::json!({"ok": false, "code": code, "error": error})
                .to_string()
                .into_bytes()
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Greeted,
    Fine,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    #[test]
    fn what_the_documentation_shows_is_understood() {
        let begin = br#"{"op":"begin","tool":"OpenAIChat","call":"c-1","kind":"llm","tid":123,
            "scope":"task","parent":"c-0","later":{"x":[1]}}"#;
        let Request::Begin(begin) = parse(begin).unwrap() else {
            panic!("a begin")
        };
        assert_eq!((begin.kind, begin.scope), (ToolKind::Llm, Scope::Task));
        assert_eq!(begin.tid, Some(123));
        let wanted = parse(br#"{"op":"use","call":null,"caller":["posthog"]}"#).unwrap();
        assert!(matches!(wanted, Request::Use(Use { call: None, .. })));
        for fine in [
            r#"{"op":"hello"}"#,
            r#"{"op":"hello","v":1,"client":"x","tools":["a"]}"#,
            r#"{"op":"end","call":"c"}"#,
            r#"{"op":"shared"}"#,
            r#"{"op":"unsaid"}"#,
            r#"{"op":"settled"}"#,
        ] {
            assert!(parse(fine.as_bytes()).is_ok(), "{fine}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let long = "x".repeat(NAME + 1);
        let deep = format!(r#"{{"op":"shared","x":{}"#, "[".repeat(4000));
        for wrong in [
            "",
            "{}",
            "[]",
            "null",
            "\u{0}",
            r#"{"op":"begin"}"#,
            r#"{"op":"explode"}"#,
            r#"{"op":"end","call":""}"#,
            r#"{"op":"end","call":7}"#,
            r#"{"op":"end","call":"a","call":"b"}"#,
            r#"{"op":"end","call":"a"} {"op":"end","call":"a"}"#,
            r#"{"op":"begin","tool":"t","call":"c","tid":-1}"#,
            r#"{"op":"begin","tool":"t","call":"c","tid":4294967296}"#,
            r#"{"op":"begin","tool":"t","call":"c","scope":"galaxy"}"#,
            &format!(r#"{{"op":"begin","tool":"{long}","call":"c"}}"#),
            &format!(r#"{{"op":"use","call":"c","caller":["{long}"]}}"#),
            &deep,
        ] {
            let refused = parse(wrong.as_bytes()).map(drop);
            assert_eq!(refused.unwrap_err().code(), "malformed", "{wrong}");
        }
        assert!(parse(b"\xff\xfe").is_err());
    }

    #[test]
    fn replies_are_json() {
        let all = [Ok(Done::Fine), Ok(Done::Greeted), Err(Refusal::NotYours)];
        for outcome in all {
            let told: serde_json::Value = serde_json::from_slice(&reply(outcome)).unwrap();
            assert_eq!(told["ok"], outcome.is_ok());
        }
    }
}
