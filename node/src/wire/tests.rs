use bytes::BytesMut;

use super::*;
use crate::ids::StreamId;

#[test]
fn a_cell_is_found_where_it_was_written() {
    let mut buf = BytesMut::new();
    write_body(
        &mut buf,
        CircId::LINK,
        &Versions {
            versions: vec![4, 5],
        },
    )
    .unwrap();
    write_body(
        &mut buf,
        CircId(0x8000_0001),
        &CreateFast {
            key_material: [7; 20],
        },
    )
    .unwrap();
    assert_eq!(buf.len(), 9 + CELL_LEN);
    let mut decoder = CellDecoder::new();
    let cell = decoder.next(&mut buf).unwrap().unwrap();
    assert_eq!(
        Versions::from_cell(&cell.body)
            .unwrap()
            .best_shared(&[3, 4]),
        Some(4)
    );
    decoder.negotiated();
    let cell = decoder.next(&mut buf).unwrap().unwrap();
    assert_eq!(
        (cell.circ, cell.command),
        (CircId(0x8000_0001), Command::CREATE_FAST)
    );
    assert_eq!(
        CreateFast::from_cell(&cell.body).unwrap().key_material,
        [7; 20]
    );
    assert_eq!(decoder.next(&mut buf), Ok(None));
}

#[test]
fn a_relay_message_comes_out_of_the_cell_it_went_into() {
    let data = [9; MAX_DB_DATA];
    let message = RelayMessage::DbData(DbData {
        section: Section::CHUNKS,
        block: 5,
        offset: 491,
        data: &data,
    });
    let mut body = [0xff; CELL_BODY_LEN];
    encode_relay(&mut body, Some(StreamId(3)), &message).unwrap();
    let (header, data) = split_relay(&body).unwrap();
    assert_eq!(header.stream, Some(StreamId(3)));
    assert_eq!(RelayMessage::decode(header.command, data), Ok(message));
}
