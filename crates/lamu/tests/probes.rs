//! What a function can see and do from inside. The scenarios are in
//! `py/probes.py`.

mod support;

scenarios!("probes":
    sees_only_its_own_files,
    sees_only_its_own_processes,
    reaches_no_service_of_the_host,
    two_sandboxes_do_not_meet,
    has_no_privilege,
    forbidden_calls_are_refused,
    idle_functions_are_frozen,
);
