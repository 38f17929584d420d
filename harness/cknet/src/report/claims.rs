//! Owns how the findings about a document read, on a terminal and as Markdown. It must not know how they were made.

use super::clean;
use super::terminal::Style;
use crate::claims::{ClaimFindings, DocumentFindings, Findings, SectionFindings, Standing};
use crate::event::Fidelity;

/// What a reader has to know before the first word on a claim.
fn caveat(findings: &Findings) -> String {
    let model = match findings.fidelity {
        Fidelity::Cluster => "",
        Fidelity::Model | Fidelity::Dataplane => "; that the model confirms a claim says nothing about the product",
    };
    format!("fidelity {}: {}{model}", findings.fidelity.as_str(), findings.statement)
}

fn sum(findings: &Findings) -> String {
    let counts = Standing::ALL.map(|standing| format!("{} {}", findings.count(standing), standing.word()));
    counts.join(", ")
}

/// The word for a claim's standing.
fn word(claim: &ClaimFindings) -> String {
    match claim.standing {
        Standing::Refuted if claim.in_part() => "REFUTED in part".into(),
        Standing::Refuted => "REFUTED".into(),
        Standing::Untested => "untested here".into(),
        other => other.word().into(),
    }
}

/// What is told below a claim, besides its evidence.
fn remarks(claim: &ClaimFindings) -> Vec<String> {
    let mut remarks = Vec::new();
    for why in &claim.why {
        remarks.push(format!("why: {}", clean::line(why)));
    }
    if claim.standing == Standing::Refuted {
        if let Some(instead) = &claim.instead {
            remarks.push(format!("instead: {}", clean::line(instead)));
        }
        if let Some(reference) = &claim.reference {
            remarks.push(format!("see: {}", clean::line(reference)));
        }
    }
    remarks
}

/// For a terminal, with styles.
pub fn as_text(findings: &Findings) -> String {
    let mut lines = Vec::new();
    lines.push(format!(
        "run {}: {} on {}, {}",
        findings.run,
        findings.distribution,
        findings.provider,
        caveat(findings)
    ));
    for document in &findings.documents {
        lines.push(String::new());
        lines.push(Style::Heading.paint(&clean::line(&document.file)));
        for section in &document.sections {
            text_of_section(section, &mut lines);
        }
    }
    let refuted: Vec<_> = findings.refuted().collect();
    if !refuted.is_empty() {
        lines.push(String::new());
        lines.push(Style::Heading.paint("documentation to correct"));
        for claim in refuted {
            lines.push(format!("  {}", clean::line(&claim.docs)));
            lines.push(format!("    {}: {}", clean::line(&claim.id), clean::line(&claim.text)));
            let against = claim.evidence.iter().filter(|evidence| evidence.says == crate::claims::Says::Against);
            for evidence in against {
                lines.push(format!("      {}: {}", clean::line(&evidence.case), clean::line(&evidence.observed)));
            }
            lines.extend(remarks(claim).into_iter().map(|remark| format!("      {remark}")));
        }
    }
    lines.push(String::new());
    lines.push(sum(findings));
    lines.join("\n") + "\n"
}

fn text_of_section(section: &SectionFindings, lines: &mut Vec<String>) {
    lines.push(String::new());
    let heading = format!("{} {}", "#".repeat(section.level), clean::line(&section.title));
    lines.push(Style::Heading.paint(&heading));
    if let Some(why) = &section.without {
        lines.push(format!("  {}", Style::Muted.paint(&format!("no claim: {}", clean::line(why)))));
    }
    for claim in &section.claims {
        let style = match claim.standing {
            Standing::Confirmed => Style::Good,
            Standing::Refuted => Style::Bad,
            Standing::Undecided => Style::Doubtful,
            Standing::Untested => Style::Muted,
        };
        let word = style.paint(&format!("{:15}", word(claim)));
        lines.push(format!("  {word}  {}: {}", clean::line(&claim.id), clean::line(&claim.text)));
        for evidence in &claim.evidence {
            let (case, outcome) = (clean::line(&evidence.case), clean::line(&evidence.outcome));
            lines.push(format!("{:19}{outcome:7}  {case}: {}", "", clean::line(&evidence.observed)));
        }
        if claim.standing == Standing::Refuted {
            lines.extend(remarks(claim).into_iter().map(|remark| format!("{:19}{remark}", "")));
        }
    }
}

/// As Markdown that GitHub renders.
pub fn as_markdown(findings: &Findings) -> String {
    let mut out = String::new();
    for document in &findings.documents {
        markdown_of_document(document, findings, &mut out);
    }
    let refuted: Vec<_> = findings.refuted().collect();
    if !refuted.is_empty() {
        out.push_str("## Documentation to correct\n\n");
        for claim in refuted {
            out.push_str(&format!("- `{}` **{}**: {}\n", claim.docs, escaped(&claim.id), escaped(&claim.text)));
            for evidence in claim.evidence.iter().filter(|evidence| evidence.says == crate::claims::Says::Against) {
                out.push_str(&format!("  - `{}`: {}\n", clean::line(&evidence.case), escaped(&evidence.observed)));
            }
            for remark in remarks(claim) {
                out.push_str(&format!("  - {}\n", escaped(&remark)));
            }
        }
        out.push('\n');
    }
    out
}

fn markdown_of_document(document: &DocumentFindings, findings: &Findings, out: &mut String) {
    out.push_str(&format!("# Claims of {}\n\n", escaped(&document.file)));
    out.push_str(&format!(
        "Run {}, {} on {}. {}.\n\n{}.\n\n",
        escaped(&findings.run),
        escaped(&findings.distribution),
        escaped(&findings.provider),
        escaped(&caveat(findings)),
        sum(findings)
    ));
    for section in &document.sections {
        let level = (section.level + 1).min(6);
        out.push_str(&format!("{} {}\n\n", "#".repeat(level), escaped(&section.title)));
        if let Some(why) = &section.without {
            out.push_str(&format!("_No claim: {}._\n\n", escaped(why)));
        }
        if section.claims.is_empty() {
            continue;
        }
        out.push_str("| | claim | evidence |\n|---|---|---|\n");
        for claim in &section.claims {
            let evidence: Vec<String> = claim
                .evidence
                .iter()
                .map(|one| format!("{} `{}`: {}", one.outcome, clean::line(&one.case), escaped(&one.observed)))
                .collect();
            out.push_str(&format!(
                "| {} | **{}** {} | {} |\n",
                word(claim),
                escaped(&claim.id),
                escaped(&claim.text),
                evidence.join("<br>")
            ));
        }
        out.push('\n');
    }
}

/// Text that Markdown shows as it is, also in a table.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in clean::line(text).chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '&' | '~' | '$') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
