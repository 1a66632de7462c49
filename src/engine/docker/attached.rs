//! A container that runs, seen from outside: what its command writes, what its first process says, and who wants it to
//! end.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use futures_util::StreamExt as _;
use mlctl_core::action::StepFailure;
use mlctl_exec::Launch;
use mlctl_exec::init::{KILL, News, TERMINATE};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep_until};

/// How long a killed container may take to end: a daemon that hangs must not keep the step for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// Both directions of a container.
pub(super) struct Attached {
    streams: AttachContainerResults,
    /// What its first process said and did not end yet.
    half: Vec<u8>,
    /// What else was said, by somebody else.
    noise: String,
}

/// How following a container ended.
pub(super) struct Followed {
    /// It was ended by us.
    pub(super) by_us: Option<StepFailure>,
    /// The last that its first process said.
    pub(super) last: Option<News>,
    /// Why nothing more can be known.
    pub(super) lost: Option<String>,
}

/// What happens next at the deadline.
#[derive(Clone, Copy)]
enum Next {
    /// It ran long enough.
    Terminate(Duration),
    /// It had its time.
    Kill,
    /// It does not even end when killed.
    Leave,
}

impl Attached {
    pub(super) fn new(streams: AttachContainerResults) -> Self {
        Self { streams, half: Vec::new(), noise: String::new() }
    }

    /// Copies what the command writes, until nothing more will come. `started` is called when it runs, and its time
    /// counts from then.
    pub(super) async fn follow(mut self, launch: &mut Launch<'_>, started: &mut dyn FnMut()) -> Followed {
        let (mut followed, cancel) = (Followed { by_us: None, last: None, lost: None }, launch.cancel.clone());
        let (asked, forced) = (cancelled(cancel.fd()), cancelled(cancel.forced_fd()));
        tokio::pin!(asked, forced);
        let (mut deadline, mut killed): (Option<(Instant, Next)>, bool) = (None, false);
        loop {
            // Who wants it to end is heard first, however much it writes.
            tokio::select! {
                biased;
                () = &mut forced, if !killed => {
                    followed.by_us.get_or_insert(StepFailure::Cancelled);
                    killed = true;
                    deadline = self.tell(KILL, PATIENCE, Next::Leave).await;
                }
                () = &mut asked, if followed.by_us.is_none() => {
                    followed.by_us = Some(StepFailure::Cancelled);
                    deadline = self.tell(TERMINATE, launch.place.grace, Next::Kill).await;
                }
                Some(next) = due(deadline) => match next {
                    Next::Terminate(limit) => {
                        let limit_millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                        followed.by_us = Some(StepFailure::TimedOut { limit_millis });
                        deadline = self.tell(TERMINATE, launch.place.grace, Next::Kill).await;
                    }
                    Next::Kill => {
                        killed = true;
                        deadline = self.tell(KILL, PATIENCE, Next::Leave).await;
                    }
                    Next::Leave => {
                        followed.lost = Some("it does not end".to_owned());
                        return followed;
                    }
                },
                piece = self.streams.output.next() => match piece {
                    Some(Ok(LogOutput::StdErr { message })) => for news in self.said(&message) {
                        if news == News::Started {
                            started();
                            let limit = launch.task.timeout.filter(|_| followed.by_us.is_none());
                            deadline = limit.and_then(|limit| at(limit, Next::Terminate(limit))).or(deadline);
                        }
                        followed.last = Some(news);
                    },
                    Some(Ok(LogOutput::StdOut { message })) => launch.log.write(&message),
                    // The daemon's own words.
                    Some(Ok(other)) => self.noise += &other.to_string(),
                    Some(Err(error)) => {
                        followed.lost = Some(error.to_string());
                        return followed;
                    }
                    None => {
                        followed.lost = Some(self.noise.trim().to_owned()).filter(|noise| !noise.is_empty());
                        return followed;
                    }
                }
            }
        }
    }

    /// Tells the first process, and what is to happen when that did not help in time.
    async fn tell(&mut self, byte: u8, time: Duration, next: Next) -> Option<(Instant, Next)> {
        // Where it is gone already, the output ends.
        let _ = self.streams.input.write_all(&[byte]).await;
        let _ = self.streams.input.flush().await;
        at(time, next)
    }

    /// The whole lines of what the first process says.
    fn said(&mut self, message: &[u8]) -> Vec<News> {
        self.half.extend_from_slice(message);
        let Some(end) = self.half.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let lines: Vec<u8> = self.half.drain(..=end).collect();
        let mut news = Vec::new();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(said) => news.push(said),
                Err(_) => self.noise += &(String::from_utf8_lossy(line) + "\n"),
            }
        }
        news
    }
}

fn at(time: Duration, next: Next) -> Option<(Instant, Next)> {
    Some((Instant::now().checked_add(time)?, next))
}

/// What is due, when it is; `None`: never, and at once, which disables the branch.
async fn due(deadline: Option<(Instant, Next)>) -> Option<Next> {
    let (at, next) = deadline?;
    sleep_until(at).await;
    Some(next)
}

/// Returns when `fd`, of a [`mlctl_exec::Cancel`], is ready. Where it cannot be watched: never.
pub(super) async fn cancelled(fd: BorrowedFd<'_>) {
    // Its own descriptor: one cannot be watched twice.
    match fd.try_clone_to_owned().and_then(Receiver::from_owned_fd) {
        Ok(pipe) => drop(pipe.readable().await),
        Err(_) => std::future::pending().await,
    }
}
