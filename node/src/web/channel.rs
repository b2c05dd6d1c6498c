//! One data channel of WebRTC, as a transport of the node's.
//!
//! The connection itself belongs to the page (`web/rtc.js`), because browsers have none in
//! workers; it hands over the channel, or a port that behaves as one (`web/channel.js`).

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use bytes::BytesMut;
use js_sys::{ArrayBuffer, Function, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::MessageEvent;

use super::{Inner, Transport, handle};
use crate::ids::LinkId;
use crate::link::Binding;
use crate::node::Input;

/// The most bytes of one message: what all browsers and libraries take, and about the fastest.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// When what the browser holds falls to this, the node is told that it may send more. Far enough
/// above nothing that the connection does not run dry until then, and below the node's high water.
const LOW_WATER_BYTES: u32 = 128 * 1024;

#[wasm_bindgen]
extern "C" {
    /// `RTCDataChannel`, or what stands for it. Its methods are called by name, for it may be
    /// either.
    pub type DataChannel;
    #[wasm_bindgen(method, getter, js_name = readyState)]
    fn ready_state(this: &DataChannel) -> String;
    #[wasm_bindgen(method, getter, js_name = bufferedAmount)]
    fn buffered_amount(this: &DataChannel) -> u32;
    #[wasm_bindgen(method, setter, js_name = bufferedAmountLowThreshold)]
    fn set_buffered_amount_low_threshold(this: &DataChannel, bytes: u32);
    #[wasm_bindgen(method, setter, js_name = binaryType)]
    fn set_binary_type(this: &DataChannel, kind: &str);
    #[wasm_bindgen(method, setter)]
    fn set_onopen(this: &DataChannel, call: Option<&Function>);
    #[wasm_bindgen(method, setter)]
    fn set_onmessage(this: &DataChannel, call: Option<&Function>);
    #[wasm_bindgen(method, setter)]
    fn set_onclose(this: &DataChannel, call: Option<&Function>);
    #[wasm_bindgen(method, setter)]
    fn set_onbufferedamountlow(this: &DataChannel, call: Option<&Function>);
    #[wasm_bindgen(method, catch)]
    fn send(this: &DataChannel, bytes: &[u8]) -> Result<(), JsValue>;
    #[wasm_bindgen(method)]
    fn close(this: &DataChannel);
}

/// A connection that the page makes, and its channel. Dropped, the channel is closed once it has
/// sent what it holds, and calls nothing more.
pub(super) struct Channel {
    own_sha256: [u8; 32],
    /// SHA-256 of the certificate that the browser holds the other side to; not known of a peer
    /// that has not answered yet.
    peer_sha256: Option<[u8; 32]>,
    adopted: Option<Adopted>,
    /// Whether something was sent since the node was last told what the browser holds.
    sent: bool,
}

struct Adopted {
    channel: DataChannel,
    _on_open: Closure<dyn FnMut()>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_low: Closure<dyn FnMut()>,
    _on_close: Closure<dyn FnMut()>,
}

impl Channel {
    /// A connection that the page has been asked for.
    pub(super) const fn new(own_sha256: [u8; 32], peer_sha256: Option<[u8; 32]>) -> Self {
        Channel {
            own_sha256,
            peer_sha256,
            adopted: None,
            sent: false,
        }
    }

    /// The other side answered. The first answer counts, as it does for the page.
    pub(super) fn answered(&mut self, peer_sha256: [u8; 32]) {
        self.peer_sha256.get_or_insert(peer_sha256);
    }

    /// Takes the channel that the page hands over.
    pub(super) fn adopt(
        &mut self,
        channel: DataChannel,
        link: LinkId,
        inner: &Weak<RefCell<Inner>>,
    ) {
        let to = inner.clone();
        let on_open = Closure::<dyn FnMut()>::new(move || opened(&to, link));
        let to = inner.clone();
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            let (Ok(buffer), Some(inner)) = (event.data().dyn_into::<ArrayBuffer>(), to.upgrade())
            else {
                return;
            };
            let array = Uint8Array::new(&buffer);
            let mut bytes = BytesMut::zeroed(array.length() as usize);
            array.copy_to(&mut bytes);
            handle(&inner, Input::Received { link, bytes });
        });
        let to = inner.clone();
        let on_low = Closure::<dyn FnMut()>::new(move || {
            let Some(inner) = to.upgrade() else { return };
            let held = match inner.borrow().transports.get(&link) {
                Some(Transport::Channel(channel)) => channel.held(),
                _ => return,
            };
            handle(&inner, Input::Buffered { link, bytes: held });
        });
        let to = inner.clone();
        let on_close = Closure::<dyn FnMut()>::new(move || {
            if let Some(inner) = to.upgrade() {
                closed(&inner, link, "the other side closed the connection");
            }
        });
        channel.set_binary_type("arraybuffer");
        channel.set_buffered_amount_low_threshold(LOW_WATER_BYTES);
        channel.set_onopen(Some(on_open.as_ref().unchecked_ref()));
        channel.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        channel.set_onbufferedamountlow(Some(on_low.as_ref().unchecked_ref()));
        channel.set_onclose(Some(on_close.as_ref().unchecked_ref()));
        let is_open = channel.ready_state() == "open";
        self.adopted = Some(Adopted {
            channel,
            _on_open: on_open,
            _on_message: on_message,
            _on_low: on_low,
            _on_close: on_close,
        });
        if is_open {
            // It does not say again that it is; and the caller holds what `opened` needs.
            let to = inner.clone();
            let later = Closure::once_into_js(move || opened(&to, link));
            super::set_timeout(later.unchecked_ref(), 0.0);
        }
    }

    /// Sends many cells. A channel that is closing says so by its close event; one that is full,
    /// which the node's high water keeps far away, is closed.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let Some(Adopted { channel, .. }) = &self.adopted else {
            return;
        };
        for message in bytes.chunks(MAX_MESSAGE_BYTES) {
            if channel.send(message).is_err() {
                channel.close();
                return;
            }
        }
        self.sent = true;
    }

    /// What the browser holds, if something was sent since that was last asked. What it sends by
    /// and by is told by its own event.
    pub(super) fn buffered_change(&mut self) -> Option<usize> {
        std::mem::take(&mut self.sent).then(|| self.held())
    }

    /// Whether [`Channel::buffered_change`] has something to say.
    pub(super) const fn is_unreported(&self) -> bool {
        self.sent
    }

    fn held(&self) -> usize {
        self.adopted
            .as_ref()
            .map_or(0, |adopted| adopted.channel.buffered_amount() as usize)
    }

    /// Lets go of the channel when one of its closures may be running: they are freed later.
    fn dispose(self) {
        let later = Closure::once_into_js(move || drop(self));
        super::set_timeout(later.unchecked_ref(), 0.0);
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        let Adopted { channel, .. } = self;
        channel.set_onopen(None);
        channel.set_onmessage(None);
        channel.set_onbufferedamountlow(None);
        channel.set_onclose(None);
        channel.close();
    }
}

/// The channel stands: DTLS has found the certificates to be those that were named.
fn opened(inner: &Weak<RefCell<Inner>>, link: LinkId) {
    let Some(inner) = inner.upgrade() else { return };
    let binding = match inner.borrow().transports.get(&link) {
        Some(Transport::Channel(Channel {
            own_sha256,
            peer_sha256: Some(peer_sha256),
            ..
        })) => Binding::WebRtc {
            own_sha256: *own_sha256,
            peer_sha256: *peer_sha256,
        },
        _ => return,
    };
    inner.borrow_mut().ask_page("opened", link);
    handle(
        &inner,
        Input::Connected {
            link,
            binding,
            peer: None,
        },
    );
}

/// A connection is gone or could not be made, as its channel or the page says.
pub(super) fn closed(inner: &Rc<RefCell<Inner>>, link: LinkId, why: &str) {
    let gone = {
        let mut inner = inner.borrow_mut();
        if !matches!(inner.transports.get(&link), Some(Transport::Channel(_))) {
            return;
        }
        inner.ask_page("close", link);
        inner.transports.remove(&link)
    };
    let why = why.to_owned();
    handle(inner, Input::Closed { link, why });
    if let Some(Transport::Channel(channel)) = gone {
        channel.dispose();
    }
}
