//! Where the runtime stands, and which of its calls are allowed there.
//!
//! ```text
//!  Absent -spawn-> Started -next-> Ready -event-> Running
//!                     |              ^              | response, error
//!                  InitError         |              v
//!                                    |   InvocationResponse, -ErrorResponse
//!                                    +-next- ResponseSent <-+ body complete
//! ```
//!
//! A `/next` repeated in Ready or Running is allowed: a client that lost its
//! connection asks again and gets the same event.
//!
//! Not here: sockets, bodies, what is told to the host.

/// The state of the runtime process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No runtime process.
    Absent,
    Started,
    InitError,
    /// It asked for an event.
    Ready,
    /// It has the event.
    Running,
    InvocationResponse,
    InvocationErrorResponse,
    ResponseSent,
}

/// A call by which the runtime reports something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    Response,
    Error,
    InitError,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The id is not that of the current invocation.
    InvalidRequestId,
    Transition {
        from: &'static str,
        to: &'static str,
    },
}

impl Phase {
    /// The names that Lambda's own error texts use.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Absent => "Exited",
            Phase::Started => "Started",
            Phase::InitError => "InitError",
            Phase::Ready => "Ready",
            Phase::Running => "Running",
            Phase::InvocationResponse => "InvocationResponse",
            Phase::InvocationErrorResponse => "InvocationErrorResponse",
            Phase::ResponseSent => "RuntimeResponseSentState",
        }
    }

    /// The runtime asks for the next event.
    pub fn next(self) -> Result<Phase, Refused> {
        match self {
            Phase::Started | Phase::Ready | Phase::ResponseSent => Ok(Phase::Ready),
            Phase::Running => Ok(Phase::Running),
            Phase::Absent
            | Phase::InitError
            | Phase::InvocationResponse
            | Phase::InvocationErrorResponse => Err(self.refuse("Ready")),
        }
    }

    /// The runtime begins to report; `current` is the id of the last event it
    /// was given, `given` the one it names.
    pub fn begin(
        self,
        report: Report,
        current: Option<&str>,
        given: Option<&str>,
    ) -> Result<Phase, Refused> {
        let (to, name) = match report {
            Report::InitError => (Phase::InitError, "InitError"),
            Report::Response => (Phase::InvocationResponse, "InvocationResponse"),
            Report::Error => (Phase::InvocationErrorResponse, "InvocationErrorResponse"),
        };
        let allowed = match report {
            Report::InitError => self == Phase::Started,
            Report::Response | Report::Error => {
                // Before any event there is no id to compare with, so that is
                // a matter of order rather than of a stale id.
                if current.is_some() && given != current {
                    return Err(Refused::InvalidRequestId);
                }
                self == Phase::Running
            }
        };
        if allowed { Ok(to) } else { Err(self.refuse(name)) }
    }

    /// The report arrived whole.
    pub fn reported(self) -> Phase {
        match self {
            Phase::InvocationResponse | Phase::InvocationErrorResponse => Phase::ResponseSent,
            phase => phase,
        }
    }

    /// The connection broke in the middle of a report: the runtime may try
    /// again.
    pub fn report_lost(self) -> Phase {
        match self {
            Phase::InvocationResponse | Phase::InvocationErrorResponse => Phase::Running,
            phase => phase,
        }
    }

    fn refuse(self, to: &'static str) -> Refused {
        Refused::Transition { from: self.name(), to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Phase; 8] = [
        Phase::Absent,
        Phase::Started,
        Phase::InitError,
        Phase::Ready,
        Phase::Running,
        Phase::InvocationResponse,
        Phase::InvocationErrorResponse,
        Phase::ResponseSent,
    ];

    #[test]
    fn next_is_allowed_only_where_an_event_may_be_awaited() {
        let allowed: Vec<_> = ALL.into_iter().filter(|phase| phase.next().is_ok()).collect();
        assert_eq!(allowed, [Phase::Started, Phase::Ready, Phase::Running, Phase::ResponseSent]);
        assert_eq!(Phase::Running.next(), Ok(Phase::Running));
    }

    #[test]
    fn a_report_is_allowed_once_and_only_while_running() {
        for phase in ALL {
            let response = phase.begin(Report::Response, Some("a"), Some("a"));
            let error = phase.begin(Report::Error, Some("a"), Some("a"));
            if phase == Phase::Running {
                assert_eq!(response, Ok(Phase::InvocationResponse));
                assert_eq!(error, Ok(Phase::InvocationErrorResponse));
            } else {
                let refused = |to| Err(Refused::Transition { from: phase.name(), to });
                assert_eq!(response, refused("InvocationResponse"));
                assert_eq!(error, refused("InvocationErrorResponse"));
            }
        }
    }

    #[test]
    fn an_init_error_is_allowed_only_before_the_first_next() {
        for phase in ALL {
            let result = phase.begin(Report::InitError, None, None);
            assert_eq!(result.is_ok(), phase == Phase::Started, "{phase:?}");
        }
    }

    #[test]
    fn a_stale_id_is_refused_before_the_order_is_looked_at() {
        for phase in ALL {
            let result = phase.begin(Report::Response, Some("new"), Some("old"));
            assert_eq!(result, Err(Refused::InvalidRequestId));
        }
    }

    #[test]
    fn a_response_before_any_event_is_out_of_order() {
        let result = Phase::Started.begin(Report::Response, None, Some("x"));
        assert_eq!(result, Err(Refused::Transition { from: "Started", to: "InvocationResponse" }));
    }

    #[test]
    fn a_lost_report_lets_the_runtime_try_again() {
        let begun = Phase::Running.begin(Report::Error, Some("a"), Some("a")).unwrap();
        assert_eq!(begun.report_lost(), Phase::Running);
        assert_eq!(begun.reported(), Phase::ResponseSent);
        assert_eq!(Phase::Ready.report_lost(), Phase::Ready);
    }
}
