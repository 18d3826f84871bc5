//! A profile as a person reads it: words, shares, and two small charts that any terminal shows.

use serde_json::Value;

use super::{Alert, Cohort, History, Profile};

const BAR_CHARS: usize = 40;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Actions that no other of the cohort did, named one by one.
const NAMED_MAX: usize = 8;

pub(super) fn page(profile: &Profile) -> String {
    let mut text = who(&profile.roster);
    match &profile.history {
        None => text.push_str("\nIt is listed by an inventory; no log shows that it ever did anything.\n"),
        Some(history) => usual(&mut text, profile, history),
    }
    alerts(&mut text, profile);
    text
}

fn who(roster: &Value) -> String {
    let word = |key: &str| roster[key].as_str().unwrap_or("-");
    let list =
        |key: &str| -> Vec<&str> { roster[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect() };
    let mut text = match roster["agent_name"].as_str() {
        Some(name) if name != word("agent_id") => format!("{name} ({})\n", word("agent_id")),
        _ => format!("{}\n", word("agent_id")),
    };
    let mut line = |label: &str, value: String| {
        if !value.is_empty() && value != "-" {
            text.push_str(&format!("  {label:12} {value}\n"));
        }
    };
    line("owner", word("agent_owner").to_owned());
    line("acts for", users(roster, &list("users")));
    line("seen", format!("{} to {}", word("first_seen"), word("last_seen")).replace("- to -", "-"));
    line("sources", list("sources").join(", "));
    line("listed in", list("listed_in").join(", "));
    line("credentials", list("credential_kinds").join(", "));
    line("scopes", list("scopes_granted").join(" "));
    for flag in FLAGS {
        if roster[*flag] == "yes" {
            line("untidy", format!("{}: {}", flag.replace('_', " "), word(&format!("{flag}_fact"))));
        }
    }
    text
}

const FLAGS: &[&str] = &[
    "no_owner",
    "never_expires",
    "shared_credential",
    "unused_scopes",
    "no_user_attribution",
    "unused",
    "long_lived",
    "generic_name",
    "overprivileged",
];

fn users(roster: &Value, named: &[&str]) -> String {
    let count = roster["users_count"].as_u64().unwrap_or(0);
    match named {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first, second, ..] if count > 3 => format!("{first}, {second} and {} more", count - 2),
        several => several.join(", "),
    }
}

fn usual(text: &mut String, profile: &Profile, history: &History) {
    let (days, sessions) = (profile.window_days, history.sessions);
    text.push_str(&format!(
        "\nIn the {days} days up to its last event it made {} calls of {} actions in {sessions} sessions.\n",
        history.events, history.actions
    ));
    section(
        text,
        "What it does, in how many of its sessions",
        profile.actions.iter().map(|done| {
            let share = percent(done.sessions as f64 / sessions.max(1) as f64);
            format!("{share:>5} %  {} ({}), {} calls, last {}", done.action, done.effect, done.calls, done.last)
        }),
    );
    section(text, "On what", profile.resources.iter().map(|on| format!("{:>7}  {}", on.calls, on.resource)));
    section(
        text,
        "What it does right after what",
        profile.follows.iter().map(|next| {
            format!("{:>5} %  {} → {} ({} times)", percent(next.share), next.previous, next.action, next.calls)
        }),
    );
    text.push_str(&chart(profile));
    text.push_str(&format!("\nHours of the day, UTC\n  0 {} 23\n", strip(&profile.hours)));
    if let Some(cohort) = &profile.cohort {
        text.push_str(&compared(cohort));
    }
    text.push_str(&judged(history));
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: String = lines.map(|line| format!("  {line}\n")).collect();
    if !lines.is_empty() {
        text.push_str(&format!("\n{title}\n{lines}"));
    }
}

/// A share in percent; what happened is never 0.
fn percent(share: f64) -> String {
    match 100.0 * share {
        share if share > 0.0 && share < 1.0 => "<1".to_owned(),
        share => format!("{share:.0}"),
    }
}

fn chart(profile: &Profile) -> String {
    let most = profile.days.iter().map(|day| day.events).max().unwrap_or(0).max(1);
    let mut text = "\nEvents a day\n".to_owned();
    for day in &profile.days {
        let length = (day.events as usize * BAR_CHARS).div_ceil(most as usize);
        text.push_str(&format!("  {} {:>7} {}\n", day.day, day.events, "█".repeat(length)));
    }
    text
}

/// One character an hour; `·` where nothing happened.
fn strip(hours: &[u64]) -> String {
    let most = hours.iter().copied().max().unwrap_or(0).max(1);
    let level = |events: u64| LEVELS[((events * 8).div_ceil(most) as usize).clamp(1, 8) - 1];
    hours.iter().map(|events| if *events == 0 { '·' } else { level(*events) }).collect()
}

fn compared(cohort: &Cohort) -> String {
    let Cohort { label, agents, only_here } = cohort;
    let word = if *agents == 1 { "agent" } else { "agents" };
    let mut text = format!("\nCompared with {agents} other {word} of {label}");
    let only = only_here.as_deref().unwrap_or_default();
    let named = only.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    text.push_str(&match (*agents, only.len()) {
        (0, _) => ".\n".to_owned(),
        (_, 0) => "; each of its actions is also done by one of them.\n".to_owned(),
        (_, count) if count > NAMED_MAX => {
            format!("; none of them did {named} and {} more.\n", count - NAMED_MAX)
        }
        _ => format!("; none of them did {named}.\n"),
    });
    text
}

fn judged(history: &History) -> String {
    let History { sessions, known_days, sessions_min, days_min, may_be_judged, .. } = history;
    let may =
        if *may_be_judged { "It may be judged by its own habits" } else { "It cannot be judged by its own habits yet" };
    format!("\n{may}: {sessions} sessions (needs {sessions_min}), known for {known_days} days (needs {days_min}).\n")
}

fn alerts(text: &mut String, profile: &Profile) {
    let verdicts = &profile.verdicts;
    let (open, confirmed, dismissed) = (verdicts.open, verdicts.confirmed, verdicts.dismissed);
    if open + confirmed + dismissed == 0 {
        text.push_str("\nNo alert was ever raised about it.\n");
        return;
    }
    let title = format!("Alerts: {open} open, {confirmed} confirmed, {dismissed} dismissed");
    section(
        text,
        &title,
        profile.alerts.iter().map(|alert| {
            let Alert { alert_id, time, detector, title, verdict } = alert;
            let id = alert_id.get(..12).unwrap_or(alert_id);
            format!("{id}  {time}  {detector}, {}: {title}", verdict.as_deref().unwrap_or("open"))
        }),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strip_shows_nothing_little_and_most() {
        assert_eq!(strip(&[0, 1, 400, 800]), "·▁▄█");
        assert_eq!(strip(&[0, 0]), "··");
        assert_eq!((percent(0.001), percent(0.0), percent(1.0)), ("<1".to_owned(), "0".to_owned(), "100".to_owned()));
    }
}
