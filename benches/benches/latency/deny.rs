//! How long a gateway waits for the deny list's answer, beside a handler that does nothing: in one server, behind the same
//! authentication, a second of questions to the one after a second of questions to the other, over the same connections, while the
//! list holds many entries.
//!
//! A gateway shows the agent's own token, of usual size, and reads on whose behalf it was issued; another shows a header.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64URL_NOPAD;
use lake::clock::Clock;
use lake::files::Disk;
use lake::log::{Group, Log, LogConfig, Payload};
use serde_json::{Value, json};

use crate::Arguments;
use crate::server::Server;
use crate::times::Times;

const CONNECTIONS: u32 = 16;
const ROUND: Duration = Duration::from_secs(1);
/// The beginning of a round is not counted: what is left of the one before comes in between.
const SETTLE: Duration = Duration::from_millis(100);
/// So many orders in one note of the control log.
const CHUNK: usize = 100;
const RATIO_MAX: f64 = 1.5;
/// Nothing changes while it is measured.
const CONFIG: &str = "[respond]\napprovals = 0\nquiet_secs = 86400\ndeny_secs = 86400\n";

pub(crate) async fn run(arguments: &Arguments, program: &Path, folder: &Path) -> Result<()> {
    let server = Server::start(program, folder, CONFIG)?;
    let wanted = json!({"target": {"kind": "agent", "agent": "agent-0"}, "reason": "one like the others"}).to_string();
    let request = server.http.post(format!("{}/v1/orders", server.url)).bearer_auth(&server.token);
    request.header("content-type", "application/json").body(wanted).send().await?.error_for_status()?;
    server.end()?;
    fill(&folder.join("data/control"), arguments.entries).await?;
    let server = Server::start(program, folder, CONFIG)?;
    let entries: Value =
        server.http.get(format!("{}/v1/deny", server.url)).bearer_auth(&server.token).send().await?.json().await?;
    let entries = entries["entries"].as_array().map_or(0, Vec::len);
    ensure!(entries >= arguments.entries, "the list holds {entries} entries");
    println!("deny: {} questions a second, {entries} entries, {CONNECTIONS} connections", arguments.questions);
    let ask = |gateway: &str, headers: &str| {
        let token = &server.token;
        format!("GET {gateway} HTTP/1.1\r\nhost: m\r\nmuster-token: {token}\r\n{headers}\r\n").into_bytes()
    };
    let token = format!("authorization: Bearer {}\r\n", agents_token());
    let kinds = [
        ask("/v1/ping", &token),
        ask("/v1/deny/ask/envoy", &token),
        ask("/v1/ping", "x-consumer-username: never\r\n"),
        ask("/v1/deny/ask/kong", "x-consumer-username: never\r\n"),
    ];
    let address = server.url.strip_prefix("http://").context("an address")?.to_owned();
    let all = load(&address, &kinds, arguments)?;
    let names = [
        "empty handler, an agent's token beside",
        "deny list, by the agent's token",
        "empty handler, a header beside",
        "deny list, by a header",
    ];
    let times = all.into_iter().map(Times::new).collect::<Result<Vec<_>>>()?;
    names.iter().zip(&times).for_each(|(name, times)| times.print(name));
    for (empty, deny) in [(0, 1), (2, 3)] {
        let ratio = times[deny].p99_ms() / times[empty].p99_ms();
        println!("{:46} {ratio:.2} times, may be {RATIO_MAX}", format!("p99 of {}", names[deny]));
    }
    Ok(())
}

/// Notes many orders like the one that is there, as the control log notes them: an order at a time would take minutes.
async fn fill(folder: &Path, entries: usize) -> Result<()> {
    let config = LogConfig { duplicates_window: 0, segment_bytes_max: 4 << 20, ..LogConfig::default() };
    let (log, _) =
        Log::open(std::sync::Arc::new(Disk::default()), folder.to_owned(), &config, Clock::system(), &["orders"])?;
    let mut like = None;
    let mut next = log.first(0);
    while next < log.end(0) {
        for frame in log.read(0, next, 1 << 20)? {
            next = frame.offset + 1;
            if let Payload::Control(note) = &frame.payload {
                like = note["orders"].as_array().and_then(|orders| orders.last().cloned()).or(like);
            }
        }
    }
    let like = like.context("the control log notes an order")?;
    for chunk in 0..entries.div_ceil(CHUNK) {
        let order = |i: usize| {
            let mut order = like.clone();
            order["order_id"] = format!("{i:032x}").into();
            order["target"]["agent"] = format!("agent-{}", i + 1).into();
            order
        };
        let orders: Vec<Value> = (chunk * CHUNK..(chunk + 1) * CHUNK).map(order).collect();
        log.append(Group { control: Some(json!({"orders": orders})), ..Group::default() }).await?;
    }
    log.close();
    Ok(())
}

/// What an agent shows its gateway: a token as identity providers issue them. Its signature is not read.
fn agents_token() -> String {
    let claims = json!({
        "iss": "https://id.example/oauth2/default", "aud": "api://prod", "sub": "ada@example.com", "azp": "agent-never",
        "scope": "invoices.read invoices.write ledger.read", "jti": "5f0c3c1e-8a57-4a3c-9d84-2b1f0a6f7c11",
        "sid": "102Nf3x9tQ8Sj2a", "iat": 1_767_225_600, "exp": 1_767_229_200, "act": {"sub": "agent-never", "act": {"sub": "planner"}},
    });
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    format!("{}.{}.{}", part(&json!({"alg": "RS256", "kid": "k1"})), part(&claims), "s".repeat(342))
}

/// Asks each kind of question for a second, again and again, over every connection, and gives how long the answers to each took.
fn load(address: &str, kinds: &[Vec<u8>], arguments: &Arguments) -> Result<Vec<Vec<Duration>>> {
    let pause = Duration::from_secs(1) * CONNECTIONS / arguments.questions;
    let began = Instant::now();
    let connection = |number: u32| {
        let (address, kinds) = (address.to_owned(), kinds.to_vec());
        let schedule = Schedule { began, offset: pause * number / CONNECTIONS, pause, rounds: arguments.secs };
        std::thread::spawn(move || ask(&address, &kinds, &schedule))
    };
    let connections: Vec<_> = (0..CONNECTIONS).map(connection).collect();
    let mut all = vec![Vec::new(); kinds.len()];
    for connection in connections {
        let times = connection.join().ok().context("an asker panicked")??;
        all.iter_mut().zip(times).for_each(|(all, times)| all.extend(times));
    }
    Ok(all)
}

/// When one connection asks.
struct Schedule {
    began: Instant,
    offset: Duration,
    pause: Duration,
    rounds: u32,
}

/// One connection's questions. A question that its connection could not ask when it was due waits from then on; what the timer
/// wakes late is nobody's waiting.
fn ask(address: &str, kinds: &[Vec<u8>], schedule: &Schedule) -> Result<Vec<Vec<Duration>>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (mut times, mut answer) = (vec![Vec::new(); kinds.len()], [0; 4096]);
    for round in 0..schedule.rounds {
        let turn = round as usize % kinds.len();
        let mut since = schedule.offset;
        while since < ROUND {
            let due = schedule.began + ROUND * round + since;
            let asked = until(due);
            stream.write_all(&kinds[turn])?;
            let read = stream.read(&mut answer)?;
            ensure!(answer.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&answer[..read]));
            // The first round of each kind warms up.
            if since >= SETTLE && round as usize >= kinds.len() {
                times[turn].push(asked.elapsed());
            }
            since += schedule.pause;
        }
    }
    Ok(times)
}

/// Sleeps until `due`; from when on the question waits.
fn until(due: Instant) -> Instant {
    let now = Instant::now();
    if now >= due {
        return due;
    }
    std::thread::sleep(due - now);
    Instant::now()
}
