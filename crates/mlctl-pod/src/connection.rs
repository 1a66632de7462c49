//! The end of the connection that runs a unit: any number of threads make calls. If the other container is started
//! again, what was not answered is asked again.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mlctl_core::digest::Digest;

use crate::protocol::{Answer, Call, Reply, Request, Trouble, receive, send};

/// How long the other container may take to start, and to start again.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks whether it has.
const PAUSE: Duration = Duration::from_millis(20);

/// A connection to who stores.
#[derive(Debug)]
pub(crate) struct Connection {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None`: it is lost, and being made again.
    stream: Option<UnixStream>,
    next: u64,
    waiting: BTreeMap<u64, (Request, Sender<Result<Answer, Trouble>>)>,
    /// The last [`Request::Will`].
    will: Option<Request>,
    /// Why there will never be an answer again.
    dead: Option<Trouble>,
}

impl Connection {
    /// Connects through the socket at this path, as soon as it is there.
    pub(crate) fn open(path: PathBuf) -> Result<Arc<Self>, Trouble> {
        let stream = connect(&path)?;
        let copy = stream.try_clone().map_err(Trouble::once)?;
        let connection = Arc::new(Self { state: Mutex::new(State { stream: Some(stream), ..State::default() }) });
        let reader = connection.clone();
        thread::spawn(move || reader.read(copy, &path));
        Ok(connection)
    }

    /// Asks, and waits for the answer.
    pub(crate) fn call(&self, request: Request) -> Result<Answer, Trouble> {
        let (answer, answered) = channel();
        {
            let mut state = self.state();
            if let Some(trouble) = &state.dead {
                return Err(trouble.clone());
            }
            if matches!(request, Request::Will(_)) {
                state.will = Some(request.clone());
            }
            state.next += 1;
            let id = state.next;
            if let Some(stream) = &state.stream {
                // Where that fails, the reader learns of it too, and asks again.
                let _ = send(stream, &Call { id, request: request.clone() });
            }
            state.waiting.insert(id, (request, answer));
        }
        answered.recv().unwrap_or_else(|_| Err(Trouble::lasting("the container that stores is gone")))
    }

    fn read(&self, mut stream: UnixStream, path: &Path) {
        loop {
            let mut lines = BufReader::new(stream);
            while let Ok(Some(Reply { id, answer })) = receive(&mut lines) {
                let waiting = self.state().waiting.remove(&id);
                if let Some((_, waiting)) = waiting {
                    // Nobody waits any more where the pod is ending.
                    let _ = waiting.send(answer);
                }
            }
            let _ = lines.get_ref().shutdown(Shutdown::Both);
            self.state().stream = None;
            match connect(path).and_then(|new| Ok((new.try_clone().map_err(Trouble::once)?, new))) {
                Ok((copy, new)) => {
                    self.state().resume(new);
                    stream = copy;
                }
                Err(trouble) => {
                    let mut state = self.state();
                    let waiting = std::mem::take(&mut state.waiting);
                    waiting.into_values().for_each(|(_, waiting)| drop(waiting.send(Err(trouble.clone()))));
                    state.dead = Some(trouble);
                    return;
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Asks again what was not answered. Numbers begin at 1: nobody waits for the answer to 0.
    fn resume(&mut self, stream: UnixStream) {
        let will = self.will.iter().map(|will| (0, will));
        let waiting = self.waiting.iter().map(|(id, (request, _))| (*id, request));
        for (id, request) in will.chain(waiting) {
            let _ = send(&stream, &Call { id, request: request.clone() });
        }
        self.stream = Some(stream);
    }
}

fn connect(path: &Path) -> Result<UnixStream, Trouble> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > deadline => {
                let waited = PATIENCE.as_secs();
                let reason =
                    format!("the container that stores did not answer for {waited} s: {}: {error}", path.display());
                return Err(Trouble::lasting(reason));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// What is asked for, in the form that it is used.
impl Connection {
    /// Records by their names.
    pub(crate) fn records(&self, names: Vec<String>) -> Result<Vec<Option<String>>, Trouble> {
        match self.call(Request::Records(names))? {
            Answer::Records(records) => Ok(records),
            other => Err(unexpected(&other)),
        }
    }

    /// All records below a directory.
    pub(crate) fn records_below(&self, directory: String) -> Result<Vec<(String, String)>, Trouble> {
        match self.call(Request::RecordsBelow(vec![directory]))? {
            Answer::Found(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    /// Writes a record unless there is one; gives what was there. A store that takes no records is of no use.
    pub(crate) fn put(&self, name: String, text: String) -> Result<Option<String>, Trouble> {
        match self.call(Request::Put { name, text }) {
            Ok(Answer::Records(there)) => Ok(there.into_iter().next().flatten()),
            Ok(other) => Err(unexpected(&other)),
            Err(trouble) => Err(Trouble::lasting(trouble.reason)),
        }
    }

    /// The result of a key.
    pub(crate) fn look_up(&self, key: Digest) -> Result<Option<Arc<mlctl_core::action::ActionResult>>, Trouble> {
        match self.call(Request::LookUp(key))? {
            Answer::Result(result) => Ok(result),
            other => Err(unexpected(&other)),
        }
    }
}

/// An answer to another question: the two containers are not of one version.
pub(crate) fn unexpected(answer: &Answer) -> Trouble {
    Trouble::lasting(format!("the container that stores answered something else: {answer:?}"))
}
