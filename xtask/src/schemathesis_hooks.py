"""Keeps schemathesis from ending the session that it asks with.

It reuses values from earlier answers, and so meets the id and the user of its own session.
"""

import os

import schemathesis

OTHERS = {
    os.environ["SESSION_KIT_OWN_SESSION"]: "00000000-0000-4000-8000-000000000000",
    os.environ["SESSION_KIT_OWN_USER"]: "nobody",
}


@schemathesis.hook
def before_call(context, case, kwargs):
    for parameters in (case.path_parameters, case.query):
        for name, value in (parameters or {}).items():
            if isinstance(value, str):
                parameters[name] = OTHERS.get(value, value)
