//! The container that stores. It alone has the credentials, it outlives the one in which a unit runs, and writes what is
//! then left to be written: the rest of the logs, and how an attempt ended that took its container with it.

mod keeper;
mod logs;

use std::fs;
use std::io::{self, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mlctl_core::event::Recorded;
use mlctl_core::records;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::arguments::Options;
use crate::protocol::{Answer, Call, Reply, Request, SOCKET, Trouble, Will, receive, send};
use keeper::Keeper;

/// Where everything in a pod is killed at once, this container goes with it: what ended another one alone is told only
/// after it would have.
const ALONE: Duration = Duration::from_secs(3);
/// How often it looks for new output.
const TICK: Duration = Duration::from_secs(1);
/// How often it looks whether anybody is still to come.
const UNSERVED: Duration = Duration::from_secs(5);

/// Stores until it is told to end, and until there is nothing left to be stored.
pub(crate) fn store(options: Options) -> io::Result<u8> {
    // Before anything that it would cut off.
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    fs::create_dir_all(&options.at)?;
    let is_finally = options.finally;
    let keeper = Arc::new(Keeper::new(options)?);
    let served = Arc::new(Served::default());
    let (working, listening) = (keeper.clone(), served.clone());
    let listener = listen(&keeper)?;
    thread::spawn(move || accept(&working, &listener, &listening));
    let tailing = keeper.clone();
    thread::spawn(move || {
        loop {
            thread::sleep(TICK);
            // What cannot be stored now is tried again.
            let _ = tailing.store_logs();
        }
    });
    let (looking, expecting, end) = (keeper.clone(), served.clone(), signals.handle());
    thread::spawn(move || {
        if !is_finally && is_left_alone(&looking, &expecting) {
            end.close();
        }
    });
    signals.forever().next();
    served.wait();
    keeper.store_logs().map(|()| 0).map_err(|trouble| io::Error::other(trouble.reason))
}

/// Whether somebody is being served.
#[derive(Debug, Default)]
struct Served {
    ever: AtomicBool,
    now: Mutex<bool>,
    changed: Condvar,
}

impl Served {
    fn set(&self, now: bool) {
        self.ever.store(true, Ordering::SeqCst);
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
        self.changed.notify_all();
    }

    /// Waits until nobody is.
    fn wait(&self) {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(now, |now| *now));
    }
}

/// Waits until somebody has come, or nobody will since the run is cancelled. The first process of a container gets no
/// signal that comes before it asks for it: without this, a pod that is told to end while it starts would stay until it is
/// killed.
fn is_left_alone(keeper: &Keeper, served: &Served) -> bool {
    loop {
        thread::sleep(UNSERVED);
        if served.ever.load(Ordering::SeqCst) {
            return false;
        }
        // What does not answer now is asked again.
        if keeper.is_cancelled().unwrap_or(false) {
            return true;
        }
    }
}

fn listen(keeper: &Keeper) -> io::Result<UnixListener> {
    let path = keeper.at.join(SOCKET);
    // Of one before this, that was killed.
    let _ = fs::remove_file(&path);
    UnixListener::bind(path)
}

/// Serves the one that connects. Nobody else finds the socket then: the step's programs could, too.
fn accept(keeper: &Arc<Keeper>, listener: &UnixListener, served: &Served) {
    let Ok((stream, _)) = listener.accept() else { return };
    served.set(true);
    let _ = fs::remove_file(keeper.at.join(SOCKET));
    let (farewell, will) = serve(keeper, &stream);
    if !farewell {
        settle(keeper, will);
    }
    served.set(false);
}

/// Answers until the connection ends. Tells whether that was announced, and else what is to be recorded.
fn serve(keeper: &Arc<Keeper>, stream: &UnixStream) -> (bool, Option<Will>) {
    let (mut farewell, mut will) = (false, None);
    let answers = Mutex::new(stream);
    let answer = |id: u64, answer: Result<Answer, Trouble>| {
        let stream = answers.lock().unwrap_or_else(PoisonError::into_inner);
        // That nobody reads it will be seen where the next call is read.
        let _ = send(*stream, &Reply { id, answer });
    };
    thread::scope(|scope| {
        let mut lines = BufReader::new(stream);
        while let Ok(Some(Call { id, request })) = receive(&mut lines) {
            match request {
                Request::Will(new) => will = new,
                Request::Goodbye => farewell = true,
                other => {
                    let answer = &answer;
                    scope.spawn(move || answer(id, keeper.answer(other)));
                    continue;
                }
            }
            answer(id, Ok(Answer::Done));
        }
    });
    (farewell, will)
}

/// Whoever ran the unit is gone without a word.
fn settle(keeper: &Keeper, will: Option<Will>) {
    let _ = keeper.store_logs();
    let Some(Will { name, record }) = will else { return };
    thread::sleep(ALONE);
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0));
    if let Ok(text) = records::encode(&Recorded { at, ..record }) {
        // Where it cannot be written, the attempt counts as lost.
        let _ = keeper.put(&name, text);
    }
}
