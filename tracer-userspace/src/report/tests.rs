//! Hostile texts in every form.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use clap::ValueEnum as _;

use super::*;
use crate::analysis::drift::{Kind, Level};

fn hostile() -> Drift {
    Drift {
        kind: Kind::New,
        level: Level::Error,
        to: "192.0.2.1".to_owned(),
        service: "443/tcp".to_owned(),
        detail: "by a\u{1b}[31m\n::error::x|`<img src=x>`\u{202e}]]>&\"".to_owned(),
        entry: None,
    }
}

#[test]
fn nothing_hostile_gets_through() {
    let drift = [hostile()];
    let report = Report {
        workload: "w\n`<b>",
        policy: "a,b:c d.toml",
        drift: &drift,
        lines: &[7],
    };
    for form in Form::value_variants() {
        let text = text(&report, *form).unwrap();
        assert!(
            !text.contains(|each: char| crate::harmless::steers(each) && each != '\n'),
            "{form:?}: {text:?}"
        );
        assert!(
            text.lines().all(|line| !line.starts_with("::error::")),
            "{form:?}"
        );
    }
    let github = text(&report, Form::Github).unwrap();
    assert!(
        github.starts_with("::error file=a%2Cb%3Ac d.toml,line=7,"),
        "{github}"
    );
    assert_eq!(github.lines().count(), 1);
    let junit = text(&report, Form::Junit).unwrap();
    assert!(!junit.contains("<img") && !junit.contains("<b>"), "{junit}");
    let markdown = text(&report, Form::Markdown).unwrap();
    assert!(markdown.contains("\\u{7c}'<img src=x>'"), "{markdown}");
    let sarif: serde_json::Value =
        serde_json::from_str(&text(&report, Form::Sarif).unwrap()).unwrap();
    let place = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
    assert_eq!(place["region"]["startLine"], 7);
    assert_eq!(place["artifactLocation"]["uri"], "a%2Cb%3Ac%20d.toml");
}
