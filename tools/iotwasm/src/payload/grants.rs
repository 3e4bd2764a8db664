//! What `iotwasm payload check` says about peripherals: the device's own decision, made beforehand.

use std::path::{Path, PathBuf};

use clap::Args;
use iotwasm_grant::{Board, Grant, Name, Refusal, Tier, beyond_board, beyond_tier, grant, load};
use iotwasm_payload::Manifest;
use serde::Serialize;

use super::Error;

#[derive(Debug, Args)]
pub(super) struct Peripherals {
    /// Check for this board, too: its name, or its file (<name>.toml), which says what peripherals it has.
    #[arg(long, value_name = "BOARD|FILE")]
    board: Option<String>,
    /// Folder with the tiers of the signing roles: <role>.toml says what the role may grant.
    #[arg(long, value_name = "DIR")]
    tiers: Option<PathBuf>,
    /// Role that will sign. Default: the manifest's vendor.
    #[arg(long, value_name = "ROLE", requires = "tiers")]
    role: Option<Name>,
}

/// What peripherals are judged by.
#[derive(Debug)]
pub(super) struct Judge {
    /// The board's name, if one was given.
    pub(super) board_name: Option<String>,
    board: Option<Board>,
    tiers: Option<PathBuf>,
    role: Option<Name>,
}

/// One thing that is too much.
#[derive(Debug, Serialize)]
pub(super) struct Beyond {
    #[serde(flatten)]
    refusal: Refusal,
    pub(super) message: String,
}

/// What was decided about one payload.
#[derive(Debug, Default, Serialize)]
pub(super) struct Decision {
    /// Who will sign, if tiers were given.
    pub(super) role: Option<Name>,
    /// What the device will grant, if board and tiers were given and nothing is too much.
    pub(super) grants: Option<Grant>,
    /// What is too much.
    pub(super) refusals: Vec<Beyond>,
}

impl Peripherals {
    pub(super) fn judge(&self) -> Result<Judge, Error> {
        let is_file = |text: &&String| text.ends_with(".toml") || text.contains('/');
        let file = self.board.as_ref().filter(is_file);
        let board = file.map(|file| load::board(Path::new(file))).transpose();
        let board = board.map_err(|err| Error::Peripherals { err })?;
        let board_name = board.as_ref().map(|board| board.name.clone()).or_else(|| self.board.clone());
        Ok(Judge { board_name, board, tiers: self.tiers.clone(), role: self.role.clone() })
    }
}

impl Judge {
    /// Decides as the device will, as far as board and tiers were given.
    pub(super) fn decide(&self, manifest: &Manifest) -> Result<Decision, Error> {
        let request = &manifest.capabilities;
        let tier = self.tier(manifest)?;
        let role = tier.as_ref().map(|tier| tier.role().clone());
        let (grants, refusals) = match (&tier, &self.board) {
            (Some(tier), Some(board)) => match grant(request, tier, board) {
                Ok(grants) => (Some(grants), Vec::new()),
                Err(refusals) => (None, refusals),
            },
            (Some(tier), None) => (None, beyond_tier(request, tier)),
            (None, Some(board)) => (None, beyond_board(request, board)),
            (None, None) => (None, Vec::new()),
        };
        let refusals = refusals.into_iter().map(|refusal| Beyond { message: refusal.to_string(), refusal }).collect();
        Ok(Decision { role, grants, refusals })
    }

    fn tier(&self, manifest: &Manifest) -> Result<Option<Tier>, Error> {
        let Some(folder) = &self.tiers else { return Ok(None) };
        let role = match &self.role {
            Some(role) => role.clone(),
            // A vendor's name is a name: what it may be made of is a part of what names are made of.
            None => match manifest.vendor.as_str().parse() {
                Ok(role) => role,
                Err(_) => return Ok(None),
            },
        };
        load::tier(folder, role).map(Some).map_err(|err| Error::Peripherals { err })
    }
}
