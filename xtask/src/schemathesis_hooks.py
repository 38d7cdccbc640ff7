"""Keeps schemathesis from ending the session that it asks with.

It reuses values from earlier answers, and so meets the id and the user of its own session; and some
calls reach every session.
"""

import os
import uuid

import schemathesis

OWN_SESSION = os.environ["SESSION_KIT_OWN_SESSION"]
OTHERS = {
    OWN_SESSION: "00000000-0000-4000-8000-000000000000",
    os.environ["SESSION_KIT_OWN_USER"]: "nobody",
    # Clients take these for a part of the path's structure.
    ".": "nobody",
    "..": "nobody",
}


@schemathesis.hook
def before_call(context, case, kwargs):
    for parameters in (case.path_parameters, case.query):
        for name, value in (parameters or {}).items():
            if isinstance(value, str):
                parameters[name] = OTHERS.get(value, value)
    call = f"{case.method} {case.path}"
    if call == "DELETE /admin/sessions" and is_id((case.query or {}).get("except")):
        case.query = {**(case.query or {}), "except": OWN_SESSION}
    elif call == "PUT /admin/block" and not case.query:
        case.query = {"user": "nobody"}


def is_id(value):
    """Whether it is an id, or left out. What does not fit is left as it is."""
    try:
        return value is None or bool(uuid.UUID(str(value)))
    except ValueError:
        return False
