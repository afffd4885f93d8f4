//! The one question for which Podman's own API is needed: what starts a container.

use std::{io, path::Path};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

/// Bytes of an answer; a container's description has some ten thousand.
const ANSWER_BYTES: u64 = 1 << 20;

/// The name or path of the container's runtime, from libpod's `containers/<id>/json` (since
/// Podman 2.0). `None` if there is no answer that makes sense.
pub(super) async fn oci_runtime(socket: &Path, id: &str) -> Option<String> {
    if !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let path = format!("/v4.0.0/libpod/containers/{id}/json");
    let answer = get(socket, &path).await.ok()?;
    let container: serde_json::Value = serde_json::from_slice(body(&answer)?).ok()?;
    container["OCIRuntime"].as_str().map(str::to_owned)
}

/// HTTP/1.0: the answer is not cut into chunks, and ends when the connection does.
async fn get(socket: &Path, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: podman\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// What follows the header of an answer that says 200.
fn body(answer: &[u8]) -> Option<&[u8]> {
    let status = answer.split(|byte| *byte == b' ').nth(1)?;
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    (status == b"200").then(|| &answer[end + 4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_says_so_has_a_body() {
        assert_eq!(body(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}"), Some(&b"{}"[..]));
        assert_eq!(body(b"HTTP/1.0 404 Not Found\r\n\r\n{}"), None);
        assert_eq!(body(b"HTTP/1.0 200 OK\r\nA: b"), None);
        assert_eq!(body(b""), None);
    }
}
