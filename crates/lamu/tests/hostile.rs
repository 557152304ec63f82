//! Functions and archives that mean harm, beside a neighbour who must not
//! notice. The scenarios are in `py/hostile.py`.

mod support;

scenarios!("hostile":
    fork_bomb,
    memory_bomb,
    descriptor_bomb,
    disk_fill,
    log_flood,
    garbage_to_the_runtime_api,
    never_calling_next,
    huge_headers,
    closing_in_the_middle_of_a_body,
    many_connections_to_the_runtime_api,
    hostile_archives,
    zip_bomb,
);
