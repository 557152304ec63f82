//! Event source mappings as boto3 sees them, while nobody polls: everything
//! wrong is said, and nothing is taken that would do nothing. The scenarios
//! are in `py/mappings.py`.

mod support;

scenarios!("mappings":
    a_source_nobody_polls_is_refused,
    wrong_mappings_get_lambdas_words,
    nothing_is_there,
);
