//! A reader that allows so many bytes, and remembers whether the file below it
//! failed: an unreadable disk is not an unreadable archive.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

pub struct Metered<R> {
    inner: R,
    meter: Meter,
}

/// Looks at a [`Metered`] that someone else owns.
#[derive(Clone)]
pub struct Meter(Rc<State>);

struct State {
    left: Cell<u64>,
    failure: RefCell<Option<io::Error>>,
}

impl<R> Metered<R> {
    pub fn new(inner: R, bytes_max: u64) -> (Self, Meter) {
        let meter =
            Meter(Rc::new(State { left: Cell::new(bytes_max), failure: RefCell::new(None) }));
        (Metered { inner, meter: meter.clone() }, meter)
    }
}

impl Meter {
    /// From here on any number of bytes may be read.
    pub fn stop(&self) {
        self.0.left.set(u64::MAX);
    }

    /// What the file below failed with, told once.
    pub fn failure(&self) -> Option<io::Error> {
        self.0.failure.borrow_mut().take()
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::Interrupted
            // A seek to before the start is the archive's fault.
            && error.kind() != io::ErrorKind::InvalidInput
        {
            let again = match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            };
            self.0.failure.replace(Some(again));
        }
        result
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = &self.meter.0.left;
        if left.get() == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its directory is too long"));
        }
        let most = usize::try_from(left.get()).unwrap_or(usize::MAX).min(buf.len());
        let count = self.meter.note(self.inner.read(&mut buf[..most]))?;
        left.set(left.get().saturating_sub(count as u64));
        Ok(count)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.meter.note(self.inner.seek(to))
    }
}
