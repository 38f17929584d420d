//! Owns what stands on the page, from top to bottom: the sum, what to correct, what failed, the claims, the scenarios
//! with their times.

use super::markup::Markup;
use crate::claims::{ClaimFindings, Findings, Says, Standing as ClaimStanding};
use crate::event::{Attachment, Counts, Matrix, Outcome, RunStarted, Standing, Summary};
use crate::exit::{ExitCode, ExitPolicy};
use crate::report::failure::{self, Fact};
use crate::report::gather::{Cluster, Course, Gathered, Heard, Scenario};
use crate::report::units::{counted, exact, measured};

const STYLE: &str = include_str!("style.css");

/// The whole page; `None` before the run has started.
pub fn page(gathered: &Gathered, findings: &Findings) -> Option<String> {
    let run = gathered.run()?;
    let mut page = Markup::default();
    page.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">");
    page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    page.element("title", "", &format!("cknet run {}", run.run));
    page.raw("<style>\n").raw(STYLE).raw("</style></head><body>\n");
    head(&mut page, run, gathered);
    to_correct(&mut page, findings);
    trouble(&mut page, gathered);
    clusters(&mut page, gathered);
    scenarios(&mut page, gathered);
    claims(&mut page, findings);
    page.raw("</body></html>\n");
    Some(page.done())
}

fn head(page: &mut Markup, run: &RunStarted, gathered: &Gathered) {
    let (word, class) = match &gathered.summary {
        None => ("under way or killed", "doubt"),
        Some(summary) => verdict(summary),
    };
    page.raw("<h1>cknet: ").element("span", class, word).raw("</h1>");
    let counts = counts(gathered);
    page.raw("<p>").text(&format!(
        "{} in {}: {}; {}",
        counted(counts.total(), "case"),
        counted(u32::try_from(gathered.scenarios.len()).unwrap_or(u32::MAX), "scenario"),
        numbers(counts),
        measured(gathered.took_ms()),
    ));
    page.raw("</p>");
    page.open("p", "box").raw("<strong>").text(&format!("Fidelity {}", run.fidelity.as_str())).raw("</strong>: ");
    page.text(&run.fidelity.statement(&run.distribution)).raw("</p>");
    page.raw("<nav>");
    for (anchor, title) in [("failures", "Failures"), ("scenarios", "Scenarios"), ("claims", "Claims")] {
        page.raw("<a href=\"#").raw(anchor).raw("\">").text(title).raw("</a>");
    }
    page.raw("</nav><table>");
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            page.raw("<tr>").element("th", "", name).element("td", "mono", value).raw("</tr>");
        }
    };
    fact("run", run.run.as_str());
    fact("begun", &gathered.started_at().to_string());
    fact("distribution", &format!("{} on {}", run.distribution, run.provider));
    fact("network", run.cni.as_deref().unwrap_or_default());
    fact("host", &format!("{}, {} {}", run.host, run.kernel, run.arch));
    for (name, version) in &run.versions {
        fact(name, version);
    }
    fact("seed", &run.seed.to_string());
    fact("again", &run.again.join(" "));
    if let Some((summary, merit)) = gathered.summary.as_ref().and_then(|summary| Some((summary, summary.merit()?))) {
        let waits = measured(summary.unavoidable_ms);
        fact("merit", &format!("{merit:.2}: the time of the run over {waits} of unavoidable waits"));
    }
    page.raw("</table>\n");
}

fn verdict(summary: &Summary) -> (&'static str, &'static str) {
    match ExitCode::from_summary(summary, ExitPolicy::default()) {
        ExitCode::Passed => ("passed", "good"),
        ExitCode::Refuted => ("failed", "bad"),
        ExitCode::NothingChecked => ("nothing checked", "doubt"),
        ExitCode::Leaked => ("passed, and something was left behind", "doubt"),
        ExitCode::Interrupted | ExitCode::Terminated => ("interrupted", "doubt"),
        ExitCode::Infrastructure | ExitCode::Usage => ("broken: nothing disproved", "doubt"),
    }
}

fn counts(gathered: &Gathered) -> Counts {
    let mut counts = Counts::default();
    for heard in gathered.scenarios.iter().flat_map(|scenario| &scenario.cases) {
        counts.add(standing(heard));
    }
    counts
}

/// A case without a verdict has been cut off, or is still to come.
fn standing(heard: &Heard) -> Standing {
    heard.judged.as_ref().map_or(Standing::Aborted, |judged| judged.outcome.standing())
}

fn numbers(counts: Counts) -> String {
    const ALL: [Standing; 8] = [
        Standing::Pass,
        Standing::Fail,
        Standing::XPass,
        Standing::Error,
        Standing::Flaky,
        Standing::XFail,
        Standing::Skipped,
        Standing::Aborted,
    ];
    let named = ALL.iter().filter(|standing| counts.of(**standing) > 0);
    named.map(|standing| format!("{} {}", counts.of(*standing), standing.as_str())).collect::<Vec<_>>().join(", ")
}

fn class(standing: Standing) -> &'static str {
    match standing {
        Standing::Pass => "good",
        Standing::Fail | Standing::XPass => "bad",
        Standing::Error | Standing::Aborted | Standing::Flaky => "doubt",
        Standing::Skipped | Standing::XFail => "dim",
    }
}

fn to_correct(page: &mut Markup, findings: &Findings) {
    let refuted: Vec<_> = findings.refuted().collect();
    if refuted.is_empty() {
        return;
    }
    page.raw("<h2>Documentation to correct</h2>");
    for claim in refuted {
        page.open("div", "box").raw("<div>").element("code", "", &claim.docs).raw("</div>");
        page.raw("<div><strong>").text(&claim.id).raw("</strong>: ").text(&claim.text).raw("</div>");
        page.raw("<ul>");
        for evidence in claim.evidence.iter().filter(|evidence| evidence.says == Says::Against) {
            page.raw("<li>").element("code", "", &evidence.case).text(": ").text(&evidence.observed).raw("</li>");
        }
        page.raw("</ul>");
        if let Some(instead) = &claim.instead {
            page.raw("<div>instead: ").text(instead);
            if let Some(reference) = &claim.reference {
                page.text(&format!(" ({reference})"));
            }
            page.raw("</div>");
        }
        page.raw("</div>\n");
    }
}

fn trouble(page: &mut Markup, gathered: &Gathered) {
    page.raw("<h2 id=\"failures\">Failures</h2>");
    let mut none = true;
    for heard in gathered.scenarios.iter().flat_map(|scenario| &scenario.cases) {
        let Some(judged) = &heard.judged else { continue };
        let standing = judged.outcome.standing();
        if standing < Standing::Flaky {
            continue;
        }
        none = false;
        page.open("div", "box failed").raw("<h3>").element("span", class(standing), standing.as_str()).raw(" ");
        page.text(&heard.case.title()).raw("</h3>");
        page.element("div", "dim mono", &failure::location(&heard.case));
        match &judged.outcome {
            Outcome::Fail { failure, .. } => {
                let mut facts = failure::facts(&heard.case, failure);
                facts.retain(|fact| !matches!(fact.label, "matrix" | "evidence"));
                show(page, &facts);
                if let Some(table) = &failure.matrix {
                    matrix(page, table);
                }
            }
            Outcome::Error { kind, message } => show(page, &[Fact::new("error", format!("{kind}: {message}"))]),
            Outcome::XPass { reason, .. } => show(page, &[Fact::new("expected", format!("to fail: {reason}"))]),
            Outcome::Aborted { reason } => show(page, &[Fact::new("reason", reason)]),
            _ => {}
        }
        let of_failure = match &judged.outcome {
            Outcome::Fail { failure, .. } => &failure.evidence[..],
            _ => &[],
        };
        links(page, judged.detail.evidence.iter().chain(of_failure));
        page.raw("</div>\n");
    }
    if none {
        page.raw("<p>None.</p>");
    }
}

fn show(page: &mut Markup, facts: &[Fact]) {
    page.raw("<table>");
    for fact in facts {
        page.raw("<tr>").element("th", "", fact.label).raw("<td>").element("pre", "", &fact.text).raw("</td></tr>");
    }
    page.raw("</table>");
}

/// Files that lie beside the page.
fn links<'a>(page: &mut Markup, evidence: impl Iterator<Item = &'a Attachment>) {
    for attachment in evidence {
        page.raw("<div>evidence: ").link(&attachment.path, &attachment.shown()).raw("</div>");
    }
}

/// The table of the scenario file; wrong cells are marked by words as well as by colour.
fn matrix(page: &mut Markup, matrix: &Matrix) {
    page.open("div", "scroll").open("table", "grid mono").raw("<tr><th></th>");
    for column in &matrix.columns {
        page.element("th", "", column);
    }
    page.raw("</tr>");
    for row in &matrix.rows {
        page.raw("<tr>").element("th", "", &row.name);
        for cell in &row.cells {
            let observed = cell.observed.as_deref().unwrap_or("not seen");
            match &cell.expected {
                None => page.element("td", "dim", "-"),
                Some(expected) if cell.is_wrong() => {
                    page.element("td", "wrong bad", &format!("✗ {observed}, not {expected}"))
                }
                Some(_) => page.element("td", "", observed),
            };
        }
        page.raw("</tr>");
    }
    page.raw("</table></div>");
}

fn clusters(page: &mut Markup, gathered: &Gathered) {
    let failed: Vec<_> = gathered
        .clusters
        .iter()
        .filter_map(|(name, cluster)| match cluster {
            Cluster::Failed(failed) => Some((name, failed)),
            Cluster::Acquiring | Cluster::Ready(_) => None,
        })
        .collect();
    if !failed.is_empty() {
        page.raw("<h2>Clusters that could not be made</h2><ul>");
        for (name, failed) in failed {
            page.raw("<li>").text(&format!("{name}: {}: {}", failed.kind, failed.message));
            links(page, failed.evidence.iter());
            page.raw("</li>");
        }
        page.raw("</ul>");
    }
    let leaks = gathered.cleanup.iter().flat_map(|cleanup| &cleanup.leaks).collect::<Vec<_>>();
    if !leaks.is_empty() {
        page.raw("<h2>Left behind</h2><ul>");
        for leak in leaks {
            page.raw("<li>").text(&format!("{} {}: {}", leak.kind, leak.name, leak.message)).raw("</li>");
        }
        page.raw("</ul>");
    }
}

fn scenarios(page: &mut Markup, gathered: &Gathered) {
    page.raw(
        "<h2 id=\"scenarios\">Scenarios</h2><p class=\"dim\">The light part of a bar is time waiting for silence.</p>",
    );
    let longest = gathered.scenarios.iter().filter_map(|scenario| scenario.took_ms).max().unwrap_or(0).max(1);
    for scenario in &gathered.scenarios {
        page.raw("<details><summary>");
        let worst = scenario.cases.iter().map(standing).max().unwrap_or(Standing::Skipped);
        page.element("span", class(worst), worst.as_str()).raw(" ");
        page.element("code", "", &scenario.id).raw(" ").text(&scenario.title);
        times(page, scenario, longest);
        page.raw("</summary><div>");
        course(page, scenario);
        cases(page, scenario);
        page.raw("</div></details>\n");
    }
}

fn times(page: &mut Markup, scenario: &Scenario, longest: u64) {
    let Some(took) = scenario.took_ms.filter(|took| *took > 0) else { return };
    let waits = scenario.waits.unwrap_or_default();
    let silence = waits.silence_ms.min(took);
    let share = |ms: u64| ms.saturating_mul(1000) / longest;
    let width = |ms: u64| format!("{}.{}%", share(ms) / 10, share(ms) % 10);
    page.raw("<div class=\"bar\"><i style=\"width:").raw(&width(took - silence)).raw("\"></i>");
    page.raw("<i class=\"silence\" style=\"width:").raw(&width(silence)).raw("\"></i></div>");
    let unavoidable = format!(
        "{}, {} % of it waiting for silence; unavoidable: `for` {}, silence {}, components {}",
        measured(took),
        silence.saturating_mul(100) / took,
        exact(waits.hold_ms),
        exact(waits.quiet_ms),
        exact(waits.component_ms),
    );
    page.element("div", "dim", &unavoidable);
}

fn course(page: &mut Markup, scenario: &Scenario) {
    if scenario.course.is_empty() {
        return;
    }
    page.raw("<ul>");
    for item in &scenario.course {
        match item {
            Course::Phase(phase) => page.raw("<li>phase <strong>").text(phase).raw("</strong></li>"),
            Course::Step { text, took_ms, failed } => {
                page.raw("<li>").element("code", "", text).text(&format!(" {}", measured(*took_ms)));
                if let Some(message) = failed {
                    page.raw(" ").element("span", "doubt", message);
                }
                page.raw("</li>")
            }
        };
    }
    page.raw("</ul>");
}

fn cases(page: &mut Markup, scenario: &Scenario) {
    page.open("table", "wide");
    for heard in &scenario.cases {
        let standing = standing(heard);
        page.raw("<tr>").element("td", class(standing), standing.as_str());
        page.element("td", "mono", &heard.case.short_title()).raw("<td>");
        if let Some(judged) = &heard.judged {
            page.text(&remark(&judged.outcome).or_else(|| judged.detail.note.clone()).unwrap_or_default());
            page.raw("</td><td class=\"dim\">").text(&measured(judged.took_ms));
            if let Some(ms) = judged.time_to_true_ms {
                page.text(&format!(", true after {}", exact(ms)));
            }
        } else {
            page.raw("</td><td>");
        }
        page.raw("</td></tr>");
    }
    page.raw("</table>");
}

/// What is to be said of an outcome in a line.
fn remark(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Fail { failure, .. } => Some(failure::in_short(failure)),
        Outcome::Skipped { reason, enable, .. } => {
            Some(enable.as_ref().map_or_else(|| reason.clone(), |enable| format!("{reason}; to run: {enable}")))
        }
        Outcome::XFail { reason, reference } | Outcome::XPass { reason, reference } => {
            Some(reference.as_ref().map_or_else(|| reason.clone(), |reference| format!("{reason} ({reference})")))
        }
        Outcome::Error { kind, message } => Some(format!("{kind}: {message}")),
        Outcome::Aborted { reason } => Some(reason.clone()),
        Outcome::Pass | Outcome::Flaky { .. } => None,
    }
}

fn claims(page: &mut Markup, findings: &Findings) {
    page.raw("<h2 id=\"claims\">Claims</h2>");
    let sums = ClaimStanding::ALL.map(|standing| format!("{} {}", findings.count(standing), standing.word()));
    page.element("p", "", &format!("{}. {}.", sums.join(", "), findings.statement));
    for document in &findings.documents {
        page.raw("<h3>").element("code", "", &document.file).raw("</h3>");
        for section in &document.sections {
            if section.claims.is_empty() && section.without.is_none() {
                page.open("p", "").raw("<strong>").text(&section.title).raw("</strong></p>");
                continue;
            }
            page.raw("<details open><summary><strong>").text(&section.title).raw("</strong></summary><div>");
            if let Some(why) = &section.without {
                page.element("p", "dim", &format!("no claim: {why}"));
            }
            for claim in &section.claims {
                one_claim(page, claim);
            }
            page.raw("</div></details>\n");
        }
    }
}

fn one_claim(page: &mut Markup, claim: &ClaimFindings) {
    let class = match claim.standing {
        ClaimStanding::Confirmed => "good",
        ClaimStanding::Refuted => "bad",
        ClaimStanding::Undecided => "doubt",
        ClaimStanding::Untested => "dim",
    };
    page.raw("<div>").element("span", class, claim.standing.word()).raw(" <strong>").text(&claim.id);
    page.raw("</strong>: ").text(&claim.text).raw("</div><ul>");
    for evidence in &claim.evidence {
        page.raw("<li>").text(&evidence.outcome).raw(" ").element("code", "", &evidence.case).raw(": ");
        page.text(&evidence.observed).raw("</li>");
    }
    page.raw("</ul>");
}
