//! How invocations end, as the caller sees it. The scenarios are in
//! `py/outcomes.py`.

mod support;

scenarios!("outcomes":
    handler_errors_have_pythons_shape,
    import_errors_are_told,
    timeouts_end_the_call_and_keep_tmp,
    exits_and_signals_are_worded,
    too_much_memory_is_out_of_memory,
    responses_have_a_limit,
    missing_bootstrap_and_wrong_architecture,
    init_runs_again_inside_the_call,
    the_environment_is_lambdas,
    json_logs_are_records,
    node_functions_work,
);
