//! An image of a local Docker daemon, asked for through the Engine's API (`GET /images/{name}/get`).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ImageError;
use super::digest::{Stop, Stoppable};

/// Where the daemon listens, unless `DOCKER_HOST` says otherwise.
const SOCKET: &str = "/var/run/docker.sock";
/// Longest head of an answer, and longest error message that is shown.
const HEAD_MAX: usize = 64 << 10;
const MESSAGE_MAX: u64 = 4 << 10;
/// A daemon may take its time; so often is looked whether anybody still wants its answer.
const LOOK_EVERY: Duration = Duration::from_millis(100);

fn socket() -> Result<PathBuf, ImageError> {
    match std::env::var("DOCKER_HOST") {
        Ok(host) if !host.is_empty() => match host.strip_prefix("unix://") {
            Some(path) => Ok(path.into()),
            None => Err(ImageError::bad(
                format!("DOCKER_HOST={host}"),
                "only unix:// sockets are supported; use `docker save` and docker-archive:FILE",
            )),
        },
        _ => Ok(SOCKET.into()),
    }
}

/// Writes the archive of an image to `to`.
pub(super) fn save(name: &str, to: &mut File, stop: &Stop<'_>) -> Result<(), ImageError> {
    let path = socket()?;
    let mut stream = UnixStream::connect(&path).map_err(|error| {
        ImageError::bad(
            path.display().to_string(),
            format!(
                "cannot reach the Docker daemon: {}; is it running?",
                crate::error::OsText(&error)
            ),
        )
    })?;
    let fail = |e| ImageError::io("talk to the Docker daemon at", &path, e);
    stream.set_read_timeout(Some(LOOK_EVERY)).map_err(fail)?;
    exchange(&mut stream, name, to, &path, stop)
}

fn exchange(
    stream: &mut UnixStream,
    name: &str,
    to: &mut File,
    path: &Path,
    stop: &Stop<'_>,
) -> Result<(), ImageError> {
    let fail = |e| ImageError::io("talk to the Docker daemon at", path, e);
    let what = || format!("docker-daemon:{name}");
    // HTTP/1.0: the answer ends where the connection ends and has no framing of its own.
    let name: String = name.bytes().map(percent).collect();
    let request = format!("GET /images/{name}/get HTTP/1.0\r\nHost: docker\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(fail)?;
    let mut stream = Stoppable::new(stream, stop);
    let mut head = Vec::new();
    let end = loop {
        let mut byte = [0];
        if head.len() > HEAD_MAX || stream.read(&mut byte).map_err(fail)? == 0 {
            return Err(ImageError::bad(what(), "the daemon's answer is cut off"));
        }
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            break head.len();
        }
    };
    let text = String::from_utf8_lossy(&head[..end]);
    let status = text
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|digits| digits.parse::<u16>().ok());
    match status {
        Some(200) => {}
        Some(status) => {
            let mut message = String::new();
            let _ = stream.take(MESSAGE_MAX).read_to_string(&mut message);
            let value: serde_json::Value = serde_json::from_str(&message).unwrap_or_default();
            let message = value
                .get("message")
                .and_then(serde_json::Value::as_str)
                .unwrap_or("the daemon gives no reason");
            return Err(ImageError::bad(
                what(),
                format!("{message} (HTTP status {status})"),
            ));
        }
        None => return Err(ImageError::bad(what(), "the answer is not HTTP")),
    }
    let length = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<u64>().ok())?
    });
    let len = io::copy(&mut stream, to).map_err(fail)?;
    if length.is_some_and(|length| length != len) {
        return Err(ImageError::bad(what(), "the daemon's answer is cut off"));
    }
    Ok(())
}

/// A byte of a name in a URL's path.
fn percent(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    }
}
