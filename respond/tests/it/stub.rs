//! A local HTTP server that answers as it is told, well or badly, and keeps what it was asked, whatever that is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone)]
pub(crate) enum Answer {
    Text(&'static str),
    /// Reads the request and never answers.
    Silence,
    /// Closes before reading.
    Slam,
}

#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

pub(crate) struct Stub {
    pub(crate) address: String,
    got: Arc<Mutex<Vec<Got>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stub {
    /// Does `answers` in turn, a connection each; after the last it closes every connection.
    pub(crate) async fn new(answers: impl IntoIterator<Item = Answer>) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address").to_string();
        let got = Arc::new(Mutex::new(Vec::new()));
        let (kept, mut answers) = (got.clone(), answers.into_iter().collect::<Vec<_>>().into_iter());
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.extend(serve(stream, answers.next().unwrap_or(Answer::Slam), &kept).await);
            }
        });
        Stub { address, got, task }
    }

    /// What was asked, in order, but for what was slammed.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().expect("not poisoned").clone()
    }
}

async fn serve(mut stream: TcpStream, answer: Answer, got: &Mutex<Vec<Got>>) -> Option<TcpStream> {
    if let Answer::Slam = answer {
        return None;
    }
    let request = request(&mut stream).await?;
    got.lock().expect("not poisoned").push(request);
    match answer {
        Answer::Text(text) => {
            stream.write_all(text.as_bytes()).await.ok()?;
            stream.shutdown().await.ok()?;
            None
        }
        _ => Some(stream),
    }
}

async fn request(stream: &mut TcpStream) -> Option<Got> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = std::str::from_utf8(&bytes).ok()?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let mut lines = head.lines();
        let mut first = lines.next()?.split(' ');
        let pairs = lines.filter_map(|line| line.split_once(": "));
        let headers: HashMap<String, String> = pairs.map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
        if body.len() >= length {
            let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
            return Some(Got { method, path, headers, body: body.to_owned() });
        }
    }
}
