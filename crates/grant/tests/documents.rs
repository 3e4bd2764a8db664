//! The examples in the documentation, and the files that devices run with, are what they say.

mod common;

use common::{chain, name, request};
use iotwasm_grant::{Board, Tier, grant, load};
use std::path::Path;

/// The TOML of a page, block by block.
fn blocks(page: &str) -> Vec<String> {
    page.split("```toml\n").skip(1).filter_map(|rest| rest.split("\n```").next()).map(str::to_owned).collect()
}

#[test]
fn the_blocks_of_the_page_on_boards_are_one_board() {
    let text = blocks(include_str!("../../../docs/boards.md")).join("\n");
    let board = Board::parse(text.as_bytes()).map_err(|err| chain(&err)).unwrap();
    assert!(board.actuators.contains_key("relay") && board.spi.contains_key("display"));
}

#[test]
fn the_example_of_a_tier_does_what_its_page_says() {
    let blocks = blocks(include_str!("../../../docs/operations.md"));
    let text = blocks.iter().find(|block| block.contains("[actuators.pump]")).unwrap();
    let tier = Tier::parse(name("bolt"), text.as_bytes()).map_err(|err| chain(&err)).unwrap();
    assert!(tier.line(&name("led")).inputs() && !tier.line(&name("door")).inputs());
}

#[test]
fn the_request_in_the_authors_guide_is_granted_on_the_test_machine_but_for_its_display() {
    let blocks = blocks(include_str!("../../../docs/payload-authors.md"));
    let text = blocks.iter().find(|block| block.contains("[capabilities.gpio]")).unwrap();
    let asked = request(&text.replace("[capabilities.", "["));
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let board = load::board(&top.join("board-configs/qemu-x86-64.toml")).unwrap();
    let tier = load::tier(&top.join("meta-iotwasm/recipes-iotwasm/capd/files/tiers.d"), name("acme")).unwrap();
    let refusals = grant(&asked, &tier, &board).unwrap_err();
    let keys: Vec<&str> = refusals.iter().map(|refusal| refusal.key.as_str()).collect();
    assert_eq!(keys, ["capabilities.spi.display"], "there is no SPI bus in the machine");
}
