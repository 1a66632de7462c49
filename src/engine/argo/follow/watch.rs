//! Stays with a run until it ends: what asks has a thread of its own, so that what does not answer keeps nobody from
//! anything.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use mlctl_core::event::{Outcome, Reason};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::super::poll::{News, Order, Poller};
use super::{Follow, Manner};
use crate::error::CommandError;
use crate::ui::run_view::RunView;

/// How often the records are looked at.
const PAUSE: Duration = Duration::from_secs(1);

impl Follow<'_, '_> {
    /// Follows the run to its end, or until somebody interrupts the watching: then there is none. It is cancelled at
    /// `deadline`. `cancel`: it is told to end at once.
    pub(crate) fn until_ended(
        &mut self,
        manner: Manner,
        deadline: Option<Instant>,
        cancel: Option<Reason>,
    ) -> Result<Option<Outcome>, CommandError> {
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
            .map_err(|error| CommandError::missing("cannot catch signals").because(&error))?;
        let mut poller = self.poller();
        let (orders, ordered) = mpsc::channel();
        let (send, news) = mpsc::channel();
        let mut stop = Stop { orders, deadline, asked: 0 };
        if let Some(reason) = cancel {
            stop.cancel(reason);
        }
        std::thread::scope(|scope| {
            scope.spawn(move || poll(&mut poller, &ordered, &send));
            let ended = self.supervise(&mut signals, &news, &mut stop, manner);
            drop((stop, news));
            ended
        })
    }

    fn supervise(
        &mut self,
        signals: &mut signal_hook::iterator::Signals,
        news: &Receiver<News>,
        stop: &mut Stop,
        manner: Manner,
    ) -> Result<Option<Outcome>, CommandError> {
        loop {
            for signal in signals.pending() {
                if manner == Manner::Watching {
                    return Ok(None);
                }
                let reason = if signal == SIGTERM { Reason::Cancelled } else { Reason::Interrupted };
                match stop.cancel(reason) {
                    1 => self.note("ending what runs on the cluster; Ctrl-C again kills it at once"),
                    2 => {}
                    _ => return Ok(None),
                }
            }
            if stop.deadline.is_some_and(|due| due <= Instant::now()) {
                stop.deadline = None;
                stop.cancel(Reason::DeadlinePassed);
            }
            match news.recv_timeout(RunView::TICK) {
                Ok(news) => self.take(news)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(CommandError::failed("what asks for the run's records has ended"));
                }
            }
            if std::mem::take(&mut self.given_up) {
                // Who is to carry it out ends only after us.
                let _ = stop.orders.send(Order::GiveUp);
            }
            self.writer.flush()?;
            if let Some(view) = &mut self.view {
                view.tick();
            }
            if let Some(outcome) = self.outcome {
                return Ok(Some(outcome));
            }
        }
    }
}

/// Asks until nobody listens any more. What cannot be carried out is tried again.
fn poll(poller: &mut Poller<'_>, ordered: &Receiver<Order>, send: &Sender<News>) {
    let mut orders: VecDeque<Order> = VecDeque::new();
    loop {
        orders.extend(ordered.try_iter());
        let mut news = Vec::new();
        while let Some(order) = orders.pop_front() {
            if let Err(error) = poller.obey(&order) {
                news.push(News::Trouble(Box::new(error)));
                orders.push_front(order);
                break;
            }
        }
        news.extend(poller.look(true));
        if news.into_iter().any(|news| send.send(news).is_err()) {
            return;
        }
        match ordered.recv_timeout(PAUSE) {
            Ok(order) => orders.push_back(order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What may end a run.
struct Stop {
    orders: Sender<Order>,
    deadline: Option<Instant>,
    asked: u32,
}

impl Stop {
    /// Tells the run to end; gives how often that was said.
    fn cancel(&mut self, reason: Reason) -> u32 {
        self.asked += 1;
        // Who is to carry it out ends only after us.
        let _ = self.orders.send(Order::Cancel { reason, again: self.asked > 1 });
        self.asked
    }
}
