use super::super::der;
use super::*;
use crate::wire::tests::Numbers;
use crate::wire::{Cert, Certs, Encode, Reader};

#[test]
fn an_identity_is_saved_and_read_back() {
    let saved = ROUTERS[0].to_secret_bytes().unwrap();
    let read = Identity::from_secret_bytes(&saved).unwrap();
    assert_eq!(
        (read.ids(), read.onion_key()),
        (ROUTERS[0].ids(), ROUTERS[0].onion_key())
    );
    assert_eq!(*read.to_secret_bytes().unwrap(), *saved);
    assert_ne!(ROUTERS[0].ids(), ROUTERS[1].ids());
    for len in 0..saved.len() {
        assert!(Identity::from_secret_bytes(&saved[..len]).is_err());
    }
    let mut numbers = Numbers(7);
    for _ in 0..300 {
        Identity::from_secret_bytes(&numbers.spoil(&saved)).ok();
    }
    let seed = &saved[16..48];
    let shown = format!("{:?} {:?}", ROUTERS[0], certs(0, None));
    assert!(shown.contains("RsaId") && !shown.contains(&format!("{:?}", &seed[..4])));
}

#[test]
fn times_of_x509() {
    for (unix, text) in [
        (0, "700101000000Z"),
        (951_782_399, "000228235959Z"),
        (951_782_400, "000229000000Z"),
        (1_700_000_000, "231114221320Z"),
        (2_524_607_999, "491231235959Z"),
        (2_524_608_000, "20500101000000Z"),
        (4_107_542_400, "21000301000000Z"),
    ] {
        let bytes = der::time(unix);
        assert_eq!(&bytes[2..], text.as_bytes());
        assert_eq!(bytes[0], if text.len() == 13 { 0x17 } else { 0x18 });
    }
}

#[test]
fn der_lengths() {
    for (len, header) in [(0, 2), (127, 2), (128, 3), (255, 3), (256, 4), (65_535, 4)] {
        let contents = vec![1; len];
        let bytes = der::element(
            der::tag::SEQUENCE,
            &[&contents[..len / 2], &contents[len / 2..]],
        );
        assert_eq!(bytes.len(), len + header);
        let (tag, whole, read) = der::any(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(
            (tag, whole, read),
            (der::tag::SEQUENCE, &bytes[..], &contents[..])
        );
    }
}

/// Certificates of one router, spoiled: they are refused, whatever it was.
#[test]
fn spoiled_certificates_are_refused() {
    let good = certs(1, Some(TLS_CERTIFICATE)).cell(Side::Responder, &TLS);
    let check = |cell: &Certs| super::super::certs::check(cell, Side::Responder, &TLS, NOW);
    assert_eq!(check(&good).unwrap().ids, ROUTERS[1].ids());
    assert_eq!(
        good.encoded_len(),
        1 + 4 * 3 + good.certs.iter().map(|c| c.body.len()).sum::<usize>()
    );
    let mut numbers = Numbers(8);
    for round in 0..1_200 {
        let mut spoiled = good.clone();
        let at = round % spoiled.certs.len();
        let cert = &mut spoiled.certs[at];
        cert.body = numbers.spoil(&cert.body);
        if *cert != good.certs[at] {
            let refused = check(&spoiled).unwrap_err();
            assert!(matches!(refused, PeerFault::Cert { .. }), "{refused}");
        }
    }
    for at in 0..good.certs.len() {
        let kind = good.certs[at].kind;
        let not_once = PeerFault::Cert {
            kind,
            fault: CertFault::NotOnce,
        };
        let mut missing = good.clone();
        missing.certs.remove(at);
        assert_eq!(check(&missing).unwrap_err(), not_once);
        let mut twice = good.clone();
        twice.certs.push(good.certs[at].clone());
        assert_eq!(check(&twice).unwrap_err(), not_once);
    }
}

#[test]
fn certificates_of_two_routers_do_not_mix() {
    let one = certs(0, Some(TLS_CERTIFICATE)).cell(Side::Responder, &TLS);
    let good = certs(1, Some(TLS_CERTIFICATE)).cell(Side::Responder, &TLS);
    for at in 0..good.certs.len() {
        let mut mixed = good.clone();
        mixed.certs[at] = one.certs[at].clone();
        assert!(super::super::certs::check(&mixed, Side::Responder, &TLS, NOW).is_err());
    }
    // Nor do those of one router for two purposes.
    let mut other = good.clone();
    let link = good.only(CertType::ED25519_TLS_LINK).unwrap().to_vec();
    other.certs.push(Cert {
        kind: CertType::ED25519_AUTH,
        body: link,
    });
    let kind = CertType::ED25519_AUTH;
    let expected = PeerFault::Cert {
        kind,
        fault: CertFault::OtherKind,
    };
    assert_eq!(
        super::super::certs::check(&other, Side::Initiator, &TLS, NOW).unwrap_err(),
        expected
    );
}
