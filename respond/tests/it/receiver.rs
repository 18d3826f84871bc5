//! A local receiver of webhooks that does as it is told, well or badly, and keeps what it got.

use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use respond::webhook::{Secret, verify};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::SECRET;

/// What to do with one connection.
#[derive(Clone)]
pub(crate) enum Reply {
    Answer(&'static str),
    /// Reads the request and never answers.
    Silence,
    /// Closes before reading.
    Slam,
}

pub(crate) const OK: Reply = Reply::Answer("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");

#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) id: String,
    pub(crate) body: serde_json::Value,
}

pub(crate) struct Receiver {
    pub(crate) address: String,
    got: Arc<Mutex<Vec<Got>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// Does `replies` in turn, and then 204 for ever.
    pub(crate) async fn new(replies: impl IntoIterator<Item = Reply>) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address").to_string();
        let got = Arc::new(Mutex::new(Vec::new()));
        let (kept, mut replies) = (got.clone(), replies.into_iter().collect::<Vec<_>>().into_iter());
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.extend(serve(stream, replies.next().unwrap_or(OK), &kept).await);
            }
        });
        Receiver { address, got, task }
    }

    /// What arrived whole, every signature verified.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().expect("not poisoned").clone()
    }
}

async fn serve(mut stream: TcpStream, reply: Reply, got: &Mutex<Vec<Got>>) -> Option<TcpStream> {
    if let Reply::Slam = reply {
        return None;
    }
    let message = request(&mut stream).await?;
    got.lock().expect("not poisoned").push(message);
    if let Reply::Answer(text) = reply {
        stream.write_all(text.as_bytes()).await.ok()?;
        stream.shutdown().await.ok()?;
        return None;
    }
    Some(stream)
}

async fn request(stream: &mut TcpStream) -> Option<Got> {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = std::str::from_utf8(&bytes).ok()?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let headers = headers(head);
        let length: usize = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
        if body.len() >= length {
            break (headers, body.to_owned());
        }
    };
    let secret: Secret = SECRET.parse().expect("is a secret");
    let sent_secs = head.get("webhook-timestamp")?.to_str().ok()?.parse().ok()?;
    let id = verify(&secret, &head, body.as_bytes(), sent_secs, 0).expect("the signature is right").to_owned();
    assert!(body.len() < 20_000);
    Some(Got { id, body: serde_json::from_str(&body).expect("the body is JSON") })
}

fn headers(head: &str) -> HeaderMap {
    let pairs = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let pair = |(name, value): (&str, &str)| {
        let name: HeaderName = name.parse().expect("is a header's name");
        (name, HeaderValue::from_str(value).expect("is a header's value"))
    };
    pairs.map(pair).collect()
}
