//! Requests: OTLP/HTTP at `/v1/traces`, in protobuf and in JSON, and OTLP/gRPC. Anything else is
//! refused. Metrics and logs are none of ours: exporters are told so by "not found".

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io::Read as _,
    time::Duration,
};

use flate2::read::GzDecoder;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName},
};
use tokio::time::timeout;
use tonic::{
    Status,
    body::Body,
    codec::CompressionEncoding,
    server::{Grpc, UnaryService},
};
use tonic_prost::ProstCodec;

use super::{Counts, Inbox};
use crate::spans::{
    Decoded, NoSpans, json,
    protobuf::{self, ExportTraceServiceRequest, ExportTraceServiceResponse},
};

/// A request, packed and unpacked, in bytes.
pub(super) const LONGEST: usize = 4 << 20;
/// For a request to arrive whole.
const PATIENCE: Duration = Duration::from_secs(10);
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Json,
    Protobuf,
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("only POST /v1/traces and gRPC are taken here")]
    NotFound,
    #[error("the content type must be application/json or application/x-protobuf")]
    ContentType,
    #[error("the content encoding must be gzip or none")]
    Packing,
    #[error("no request of at most {LONGEST} bytes came within {} s", PATIENCE.as_secs())]
    TooLong,
    #[error("{0}")]
    NoSpans(#[from] NoSpans),
    #[error("too much at once: try again")]
    NoRoom,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::ContentType | Self::Packing => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoSpans(_) => StatusCode::BAD_REQUEST,
            Self::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Answers one request, when it is its turn.
pub(super) async fn answer(
    request: Request<Incoming>,
    inbox: Inbox,
) -> Result<Response<Body>, Infallible> {
    let room = inbox.room.clone();
    let turn = timeout(PATIENCE, room.acquire()).await;
    let Ok(Ok(_turn)) = turn else {
        Counts::add(&inbox.counts.no_room);
        return Ok(match request.uri().path() {
            EXPORT => Status::unavailable(Refusal::NoRoom.to_string()).into_http(),
            _others => refused(&Refusal::NoRoom),
        });
    };
    if request.uri().path() == EXPORT {
        let late = |_| Status::deadline_exceeded(Refusal::TooLong.to_string()).into_http();
        let answered = timeout(PATIENCE, by_grpc(request, inbox)).await;
        return Ok(answered.unwrap_or_else(late));
    }
    let answer = match by_http(request, &inbox).await {
        Ok(Encoding::Json) => said(StatusCode::OK, "application/json", "{}".into()),
        // The response message is empty, and so are its bytes.
        Ok(Encoding::Protobuf) => said(StatusCode::OK, "application/x-protobuf", Bytes::new()),
        Err(refusal) => {
            if !matches!(refusal, Refusal::NoRoom) {
                Counts::add(&inbox.counts.refused);
            }
            refused(&refusal)
        }
    };
    Ok(answer)
}

fn refused(refusal: &Refusal) -> Response<Body> {
    said(refusal.status(), "text/plain", refusal.to_string().into())
}

async fn by_http(request: Request<Incoming>, inbox: &Inbox) -> Result<Encoding, Refusal> {
    if request.method() != Method::POST || request.uri().path() != "/v1/traces" {
        return Err(Refusal::NotFound);
    }
    let kind = header(&request, &CONTENT_TYPE);
    let encoding = match kind.split(';').next().map(str::trim) {
        Some("application/json") => Encoding::Json,
        Some("application/x-protobuf") => Encoding::Protobuf,
        Some(_) | None => return Err(Refusal::ContentType),
    };
    let is_packed = match header(&request, &CONTENT_ENCODING) {
        "" | "identity" => false,
        "gzip" => true,
        _ => return Err(Refusal::Packing),
    };
    let body = Limited::new(request.into_body(), LONGEST).collect();
    let Ok(Ok(body)) = timeout(PATIENCE, body).await else {
        return Err(Refusal::TooLong);
    };
    let mut bytes = body.to_bytes();
    if is_packed {
        bytes = unpacked(&bytes)?;
    }
    let decoded = match encoding {
        Encoding::Json => json::decode(&bytes)?,
        Encoding::Protobuf => protobuf::decode(&bytes)?,
    };
    inbox.put(decoded)?;
    Ok(encoding)
}

impl Inbox {
    fn put(&self, decoded: Decoded) -> Result<(), Refusal> {
        match self.sender.try_send(decoded) {
            Ok(()) => {
                Counts::add(&self.counts.requests);
                Ok(())
            }
            Err(_) => {
                Counts::add(&self.counts.no_room);
                Err(Refusal::NoRoom)
            }
        }
    }
}

fn unpacked(bytes: &[u8]) -> Result<Bytes, Refusal> {
    let mut out = Vec::new();
    let limit = LONGEST as u64 + 1;
    let read = GzDecoder::new(bytes).take(limit).read_to_end(&mut out);
    match read {
        Ok(length) if length <= LONGEST => Ok(out.into()),
        Ok(_) => Err(Refusal::TooLong),
        Err(_) => Err(Refusal::Packing),
    }
}

fn header<'a>(request: &'a Request<Incoming>, name: &HeaderName) -> &'a str {
    let value = request.headers().get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn said(status: StatusCode, kind: &'static str, text: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(text)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

async fn by_grpc(request: Request<Incoming>, inbox: Inbox) -> Response<Body> {
    let codec = ProstCodec::<ExportTraceServiceResponse, ExportTraceServiceRequest>::default();
    Grpc::new(codec)
        .max_decoding_message_size(LONGEST)
        .accept_compressed(CompressionEncoding::Gzip)
        .unary(Export(inbox), request)
        .await
}

/// The service's one method.
struct Export(Inbox);

impl UnaryService<ExportTraceServiceRequest> for Export {
    type Response = ExportTraceServiceResponse;
    type Future = Ready<Result<tonic::Response<Self::Response>, Status>>;

    fn call(&mut self, request: tonic::Request<ExportTraceServiceRequest>) -> Self::Future {
        let taken = self.0.put(request.into_inner().spans());
        ready(match taken {
            Ok(()) => Ok(tonic::Response::new(ExportTraceServiceResponse {})),
            Err(refusal) => Err(Status::unavailable(refusal.to_string())),
        })
    }
}
