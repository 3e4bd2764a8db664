//! Who may do what with which peripheral: the board file, the tiers of the signing roles, a payload's request, the grant
//! that all three agree on, and the judges of each operation under that grant.
//!
//! The one home of this vocabulary. Pure: no clock, no device, and no file but those that [`load`] is told to read.
//! Nothing here opens a pin or a bus; it says what may be opened, and what may be sent there.

pub mod access;
pub mod board;
mod board_check;
pub mod bucket;
mod decide;
pub mod error;
pub mod grant;
pub mod i2c;
pub mod load;
pub mod name;
pub mod refusal;
pub mod request;
pub mod spi;
pub mod tier;
pub mod value;

pub use access::{Access, Direction, I2cTransfer, SpiTransfer};
pub use board::Board;
pub use bucket::{BucketState, Rate, TokenBucket, TooSoon};
pub use decide::{actuator_of, beyond_board, beyond_tier, grant};
pub use error::{Invalid, ParseError};
pub use grant::Grant;
pub use name::{Name, Pattern};
pub use refusal::{Allows, Refusal, Side};
pub use request::Request;
pub use tier::Tier;
pub use value::{Allowed, Kind, Number, Value};
