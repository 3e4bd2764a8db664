//! `io.iotwasm.Ota` over Varlink: shows what is shared, passes orders on. Decides only who may ask.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use futures_util::Stream;
use futures_util::stream::{self, BoxStream, StreamExt};
use iotwasm_api::Reason;
use iotwasm_api::ota::{
    Attempt, CheckRequested, FirmwareInfo, History, Level, Monitored, OtaError, Outcome, PayloadInfo, SlotStatus,
    Status,
};
use iotwasm_api::supervisor::Slot;
use iotwasm_kit::access::Grants;
use iotwasm_kit::varlink::Peer;
use tokio::sync::broadcast::error::RecvError;
use zlink::Reply;

use crate::shared::Shared;
use crate::worker::Order;

/// One connection's view of the daemon.
#[derive(Debug)]
pub(crate) struct OtaService {
    /// Who asks.
    pub(crate) peer: Peer,
    /// Who may.
    pub(crate) grants: Arc<Grants>,
    /// What there is to see.
    pub(crate) shared: Arc<Shared>,
    /// Where orders go.
    pub(crate) orders: Sender<Order>,
}

impl OtaService {
    fn denied(&self) -> OtaError {
        OtaError::PermissionDenied { uid: self.peer.uid.into() }
    }

    fn may_observe(&self) -> Result<(), OtaError> {
        if self.grants.may_observe(self.peer.uid) { Ok(()) } else { Err(self.denied()) }
    }

    fn news(&self, more: bool) -> BoxStream<'static, Result<Reply<Monitored>, OtaError>> {
        if let Err(denied) = self.may_observe() {
            return stream::iter([Err(denied)]).boxed();
        }
        let (first, news) = self.shared.subscribe();
        let first = stream::iter([Ok(Reply::new(Some(first)).set_continues(Some(more)))]);
        if !more {
            return first.boxed();
        }
        let rest = stream::unfold((news, Arc::clone(&self.shared)), |(mut news, shared)| async move {
            let item = match news.recv().await {
                Ok(item) => item,
                // Some were missed: what counts is how things are now.
                Err(RecvError::Lagged(_)) => shared.present(),
                Err(RecvError::Closed) => return None,
            };
            Some((Ok(Reply::new(Some(item)).set_continues(Some(true))), (news, shared)))
        });
        first.chain(rest).boxed()
    }
}

#[zlink::service(
    interface = "io.iotwasm.Ota",
    types = [Attempt, FirmwareInfo, Level, Outcome, PayloadInfo, Reason, Slot, SlotStatus],
    vendor = "iotwasm",
    product = "ota-updated",
    version = env!("CARGO_PKG_VERSION"),
    url = "https://iotwasm.io/"
)]
impl OtaService {
    /// What is installed and what goes on.
    async fn get_status(&self) -> Result<Status, OtaError> {
        self.may_observe()?;
        Ok(self.shared.status())
    }

    /// Look for updates now instead of at the next poll.
    async fn check_now(&self) -> Result<CheckRequested, OtaError> {
        if !self.grants.may_control(self.peer.uid) {
            return Err(self.denied());
        }
        let already_running = self.shared.is_checking();
        // The worker only goes away when the daemon does.
        let _ = self.orders.send(Order::CheckNow);
        Ok(CheckRequested { already_running })
    }

    /// Attempts, newest first.
    async fn get_history(
        &self,
        payload: Option<String>,
        limit: i64,
        level: Option<Level>,
    ) -> Result<History, OtaError> {
        self.may_observe()?;
        let limit = usize::try_from(limit)
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| OtaError::InvalidArgument { message: format!("limit is {limit}; it must be at least 1") })?;
        Ok(History { attempts: self.shared.attempts(payload.as_deref(), level, limit) })
    }

    /// Every change as it happens.
    #[zlink(more)]
    async fn monitor(&self, more: bool) -> impl Stream<Item = Result<Reply<Monitored>, OtaError>> + Unpin {
        self.news(more)
    }
}
