//! Why a poll's run failed. Texts name paths without their query, which may hold a cursor, and never a token.

use lake::log::LogError;

#[derive(Debug, thiserror::Error)]
pub enum PollError {
    #[error("there is no poll `{0}`")]
    Unknown(String),
    #[error("poll `{poll}`: {problem}")]
    Configuration { poll: String, problem: String },
    #[error("cannot read {path}: {problem}")]
    Secret { path: String, problem: String },
    #[error("{path}: no answer: {problem}")]
    NoAnswer { path: String, problem: String },
    #[error("{path}: answered {status}")]
    Status { path: String, status: u16 },
    #[error("{path}: answered {status}, a redirect to {to}: redirects are not followed")]
    Redirect { path: String, status: u16, to: String },
    #[error("{path}: the next page is at {to}, which is not the host that was configured")]
    OtherHost { path: String, to: String },
    #[error("{path}: the answer is larger than page_bytes_max ({bytes_max} bytes)")]
    TooLarge { path: String, bytes_max: usize },
    #[error("{path}: asks to wait {secs} s, longer than retry_after_secs_max ({secs_max} s)")]
    TooLong { path: String, secs: u64, secs_max: u64 },
    #[error("{path}: {problem}")]
    Answer { path: String, problem: String },
    #[error("list `{list}`: {problem}")]
    List { list: String, problem: String },
    #[error("the run needs more than {name} ({max})")]
    Limit { name: &'static str, max: u64 },
    #[error("the run took longer than run_secs ({secs_max} s)")]
    Timeout { secs_max: u64 },
    #[error(transparent)]
    Log(#[from] LogError),
}
