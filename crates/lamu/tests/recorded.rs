//! What real tools send, replayed request by request (`recorded/*.json`, by
//! `py/recorded.py`), and the waiters and paginators of botocore.

mod support;

scenarios!("recorded":
    terraform,
    sam,
    every_waiter_ends,
    every_paginator_pages,
);
