//! The page: files from the binary or from a folder, with the headers that browsers want.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use chive_node::native::Failure;
use chive_node::native::http::{Answer, text};
use http_body_util::Full;
use hyper::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_ENCODING,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use sha2::{Digest, Sha256};

include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// One file of `web/dist`, as the build script puts it in.
struct Embedded {
    name: &'static str,
    plain: &'static [u8],
    gzipped: Option<&'static [u8]>,
}

/// What is served where the page should be, when it was not built.
const NOT_BUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8>\
<title>Chive: no page</title>\
<h1>This bridge was built without the page</h1>\
<p>It works as a bridge. For the page, build it and then the bridge again:\
<pre>cargo xtask web\ncargo build --release --package chive-bridge</pre>\
<p>or start the bridge with <code>--web-dir web/dist</code>.";

/// The largest file of a page that `--web-dir` takes: the page is held in memory.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// All files of the page, by their path without the leading slash.
#[derive(Debug)]
pub(crate) struct Page {
    files: BTreeMap<String, File>,
}

#[derive(Debug)]
struct File {
    content_type: &'static str,
    plain: Variant,
    gzipped: Option<Variant>,
}

#[derive(Debug)]
struct Variant {
    bytes: Bytes,
    etag: HeaderValue,
}

impl Page {
    /// The page that was built into this binary, or one that says how to build it.
    pub(crate) fn embedded() -> Self {
        let files = FILES.iter().map(|file| {
            let plain = Bytes::from_static(file.plain);
            (
                file.name.to_owned(),
                File::new(file.name, plain, file.gzipped.map(Bytes::from_static)),
            )
        });
        let mut files: BTreeMap<String, File> = files.collect();
        let index = "index.html";
        files
            .entry(index.to_owned())
            .or_insert_with(|| File::new(index, Bytes::from_static(NOT_BUILT.as_bytes()), None));
        Page { files }
    }

    /// The page in a folder, read once.
    pub(crate) fn from_folder(folder: &Path) -> Result<Self, Failure> {
        let mut files = BTreeMap::new();
        read_folder(folder, "", &mut files).map_err(|error| {
            Failure::new(format!(
                "cannot read the page in {}: {error}",
                folder.display()
            ))
        })?;
        if !files.contains_key("index.html") {
            return Err(Failure::new(format!(
                "there is no index.html in {}: `cargo xtask web` makes web/dist",
                folder.display()
            )));
        }
        // What lies packed beside a file is that file, for those who take it so.
        let packed = |name: &String, _: &mut File| name.ends_with(".gz");
        let packed: Vec<_> = files.extract_if(.., packed).collect();
        for (name, file) in packed {
            if let Some(of) = name.strip_suffix(".gz").and_then(|of| files.get_mut(of)) {
                of.gzipped = Some(file.plain);
            }
        }
        Ok(Page { files })
    }

    /// Answers GET or HEAD for `path`.
    pub(crate) fn answer(&self, path: &str, request: &HeaderMap) -> Answer {
        let name = path.strip_prefix('/').unwrap_or(path);
        let found = if name.is_empty() || name.ends_with('/') {
            self.files.get(&format!("{name}index.html"))
        } else {
            self.files.get(name)
        };
        let Some(file) = found else {
            return text(StatusCode::NOT_FOUND, "there is nothing here");
        };
        let gzipped = file.gzipped.as_ref().filter(|_| accepts_gzip(request));
        let variant = gzipped.unwrap_or(&file.plain);
        let fresh = request
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|list| list.to_str().ok())
            .flat_map(|list| list.split(','))
            .any(|known| {
                known.trim().trim_start_matches("W/") == variant.etag || known.trim() == "*"
            });
        let mut answer = Response::new(Full::new(if fresh {
            Bytes::new()
        } else {
            variant.bytes.clone()
        }));
        let headers = answer.headers_mut();
        headers.insert(ETAG, variant.etag.clone());
        // Kept, but asked about each time: a new bridge has a new page at once.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        if fresh {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            return answer;
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
        if gzipped.is_some() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        protect(headers);
        answer
    }
}

impl File {
    fn new(name: &str, plain: Bytes, gzipped: Option<Bytes>) -> Self {
        File {
            content_type: content_type(name),
            plain: Variant::new(plain),
            gzipped: gzipped.map(Variant::new),
        }
    }
}

impl Variant {
    fn new(bytes: Bytes) -> Self {
        let digest = Sha256::digest(&bytes);
        let hex: String = digest
            .iter()
            .take(12)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let etag = HeaderValue::from_str(&format!("\"{hex}\""));
        Variant {
            bytes,
            etag: etag.unwrap_or(HeaderValue::from_static("\"\"")),
        }
    }
}

/// What the page may do, and who may have it. A worker's policy is that of its own script, so
/// each file carries all of it.
fn protect(headers: &mut HeaderMap) {
    let header = HeaderName::from_static;
    let value = HeaderValue::from_static;
    headers.insert(CONTENT_SECURITY_POLICY, value(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, value("nosniff"));
    headers.insert(REFERRER_POLICY, value("no-referrer"));
    headers.insert(header("cross-origin-opener-policy"), value("same-origin"));
    // The module is for other people's pages too, and nothing here is anyone's secret.
    headers.insert(
        header("cross-origin-resource-policy"),
        value("cross-origin"),
    );
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value("*"));
    headers.insert(header("service-worker-allowed"), value("/"));
    headers.insert(
        header("permissions-policy"),
        value("camera=(), microphone=(), geolocation=(), browsing-topics=()"),
    );
}

fn accepts_gzip(request: &HeaderMap) -> bool {
    request
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let refused = parts.any(|part| {
                part.strip_prefix("q=")
                    .is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0))
            });
            name.eq_ignore_ascii_case("gzip") && !refused
        })
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("wasm") => "application/wasm",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("webp") => "image/webp",
        Some("woff2") => "font/woff2",
        Some("mp4") => "video/mp4",
        Some("webm") => "video/webm",
        Some("torrent") => "application/x-bittorrent",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn read_folder(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, File>,
) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let name = format!("{prefix}{name}");
        let metadata = std::fs::metadata(entry.path())?;
        if metadata.is_dir() {
            read_folder(&entry.path(), &format!("{name}/"), files)?;
        } else if metadata.len() <= MAX_FILE_BYTES {
            let bytes = Bytes::from(std::fs::read(entry.path())?);
            files.insert(name.clone(), File::new(&name, bytes, None));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> (tempfile::TempDir, Page) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("index.html"), "<p>hello").unwrap();
        std::fs::create_dir(folder.path().join("ui")).unwrap();
        std::fs::write(folder.path().join("ui/a.js"), "1").unwrap();
        let page = Page::from_folder(folder.path()).unwrap();
        (folder, page)
    }

    #[test]
    fn what_is_packed_beside_a_file_is_sent_for_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("index.html"), "<p>hello").unwrap();
        std::fs::write(folder.path().join("index.html.gz"), "packed").unwrap();
        let page = Page::from_folder(folder.path()).unwrap();
        assert_eq!(page.files.len(), 1);
        let packed = page.files["index.html"].gzipped.as_ref().unwrap();
        assert_eq!(packed.bytes, "packed");
    }

    #[test]
    fn files_have_their_types_and_guards() {
        let (_folder, page) = page();
        let none = HeaderMap::new();
        for (path, content_type) in [
            ("/", "text/html; charset=utf-8"),
            ("/index.html", "text/html; charset=utf-8"),
            ("/ui/a.js", "text/javascript; charset=utf-8"),
        ] {
            let answer = page.answer(path, &none);
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
            let headers = answer.headers();
            assert_eq!(headers[CONTENT_TYPE], content_type);
            assert_eq!(headers[CONTENT_SECURITY_POLICY], POLICY);
            assert!(POLICY.contains("default-src 'none'"), "{POLICY}");
            assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(headers[REFERRER_POLICY], "no-referrer");
            assert_eq!(headers["service-worker-allowed"], "/");
        }
        for path in ["/ui", "/nothing", "/../page.rs", "/ui/../index.html", "//"] {
            assert_eq!(
                page.answer(path, &none).status(),
                StatusCode::NOT_FOUND,
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_known_is_not_sent_again() {
        let (_folder, page) = page();
        let first = page.answer("/", &HeaderMap::new());
        let mut request = HeaderMap::new();
        request.insert(IF_NONE_MATCH, first.headers()[ETAG].clone());
        let second = page.answer("/", &request);
        assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(second.headers()[ETAG], first.headers()[ETAG]);
        request.insert(IF_NONE_MATCH, HeaderValue::from_static("\"other\""));
        assert_eq!(page.answer("/", &request).status(), StatusCode::OK);
    }

    #[test]
    fn gzip_only_for_those_who_take_it() {
        let zipped = Some(Bytes::from_static(b"zipped"));
        let file = File::new("a.wasm", Bytes::from_static(b"plain"), zipped);
        let page = Page {
            files: [("a.wasm".to_owned(), file)].into(),
        };
        for (coding, expected) in [
            ("", None),
            ("br", None),
            ("gzip;q=0", None),
            ("gzip, deflate, br", Some("gzip")),
            ("br;q=1, GZIP;q=0.5", Some("gzip")),
        ] {
            let mut request = HeaderMap::new();
            request.insert(ACCEPT_ENCODING, HeaderValue::from_static(coding));
            let answer = page.answer("/a.wasm", &request);
            let encoding = answer
                .headers()
                .get(CONTENT_ENCODING)
                .map(|v| v.to_str().unwrap());
            assert_eq!(encoding, expected, "{coding}");
        }
    }
}
