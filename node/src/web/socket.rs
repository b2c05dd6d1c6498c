//! One WebSocket, as a transport of the node's.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use bytes::BytesMut;
use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{BinaryType, CloseEvent, MessageEvent, WebSocket};

use super::{Inner, Transport, handle};
use crate::ids::LinkId;
use crate::link::Binding;
use crate::node::Input;

/// A WebSocket and what it calls. Dropped, it is closed and calls nothing more.
pub(super) struct Socket {
    socket: WebSocket,
    /// What the node was last told that the browser holds.
    told: usize,
    /// Whether something was sent since. All of it may be gone when the browser is next asked, and
    /// the node counts it as held until it is told.
    sent: bool,
    _on_open: Closure<dyn FnMut()>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_close: Closure<dyn FnMut(CloseEvent)>,
}

impl Socket {
    /// Opens a WebSocket for `link`, or says why the browser does not.
    pub(super) fn open(
        url: &str,
        link: LinkId,
        inner: Weak<RefCell<Inner>>,
    ) -> Result<Self, String> {
        let socket = WebSocket::new(url).map_err(|error| {
            let said = js_sys::Reflect::get(&error, &"message".into())
                .ok()
                .and_then(|message| message.as_string())
                .unwrap_or_default();
            format!("the browser does not open this bridge's address: {said}")
        })?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let tell = move |input: Input, inner: &Weak<RefCell<Inner>>| {
            if let Some(inner) = inner.upgrade() {
                handle(&inner, input);
            }
        };
        let to = inner.clone();
        let on_open = Closure::<dyn FnMut()>::new(move || {
            let binding = Binding::WebSocket;
            tell(
                Input::Connected {
                    link,
                    binding,
                    peer: None,
                },
                &to,
            );
        });
        let to = inner.clone();
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            if let Ok(buffer) = event.data().dyn_into::<ArrayBuffer>() {
                let array = Uint8Array::new(&buffer);
                let mut bytes = BytesMut::zeroed(array.length() as usize);
                array.copy_to(&mut bytes);
                tell(Input::Received { link, bytes }, &to);
            }
        });
        let opened = Rc::new(std::cell::Cell::new(false));
        let was_opened = opened.clone();
        let to = inner;
        let on_close = Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
            if let Some(inner) = to.upgrade() {
                // Nothing may touch the socket's closures while this one runs, so the socket is
                // kept until the node has been told.
                let gone = inner.borrow_mut().transports.remove(&link);
                let why = close_sentence(event.code(), &event.reason(), was_opened.get());
                tell(Input::Closed { link, why }, &to);
                if let Some(Transport::Socket(socket)) = gone {
                    socket.dispose();
                }
            }
        });
        let mark = Closure::<dyn FnMut()>::once_into_js(move || opened.set(true));
        let _ = socket.add_event_listener_with_callback("open", mark.unchecked_ref());
        socket.set_onopen(Some(on_open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(on_close.as_ref().unchecked_ref()));
        Ok(Socket {
            socket,
            told: 0,
            sent: false,
            _on_open: on_open,
            _on_message: on_message,
            _on_close: on_close,
        })
    }

    /// Sends one message of many cells. A socket that is closing says so by its close event.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.send_with_u8_array(bytes);
        self.sent = true;
    }

    /// What the browser still holds, if that is not what the node believes.
    pub(super) fn buffered_change(&mut self) -> Option<usize> {
        let bytes = self.socket.buffered_amount() as usize;
        let was_sent = std::mem::take(&mut self.sent);
        (was_sent || bytes != self.told).then(|| {
            self.told = bytes;
            bytes
        })
    }

    /// Whether the browser holds something, or the node may believe so: it is to be asked soon.
    pub(super) fn holds(&self) -> bool {
        self.sent || self.told > 0
    }

    /// Lets go of the socket after its own close event: its closures are freed once the event
    /// that runs in one of them is over.
    fn dispose(self) {
        let later = Closure::once_into_js(move || drop(self));
        super::set_timeout(later.unchecked_ref(), 0.0);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        let _ = self.socket.close();
    }
}

/// What a close event means to a user. Browsers do not tell pages why a connection failed.
fn close_sentence(code: u16, reason: &str, was_open: bool) -> String {
    match (was_open, reason) {
        (_, reason) if !reason.is_empty() => format!("the bridge closed the connection: {reason}"),
        (true, _) => format!("the connection to the bridge was lost (code {code})"),
        (false, _) => "the bridge cannot be reached: it may be down, refuse, or be blocked".into(),
    }
}
