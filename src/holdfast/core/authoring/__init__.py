"""Settings files: from YAML or JSON text to edits, and back.

    plan(files, services) -> Plan            all at once: edits, or all problems of all files
    check_together(plan)                     what the write door would say of files by themselves
    lint_together(plan, today)               what is allowed and probably not meant
    standing(plan) -> State                  what stands once nothing but the plan's services does
    placed(problems, documents)              problems of the state, in the files that speak of it
    parse(text, file) -> Parsed              one file: its document, and what is wrong with it
    compile_document(document, visible)      conditions lowered, variants resolved, all checked
    edits_for(services, compiled)            the least edits that make the state say the same
    settle_conditions(edits, services)       the same for edits that no file wrote
    render(name, service) -> str             back to a file

A file is the whole of a service. `layout` says what may stand in it; `json_schema` publishes that.
"""

from __future__ import annotations

from holdfast.core.authoring.batch import Plan, SourceFile, edits_for, plan, visible_to
from holdfast.core.authoring.compiling import Compiled, Visible, compile_document
from holdfast.core.authoring.conditions import carries_conditions, settle_conditions
from holdfast.core.authoring.document import Document, Parsed, parse, read
from holdfast.core.authoring.layout import json_schema
from holdfast.core.authoring.members import PutBlob, ReadMembers, audience_of, lines
from holdfast.core.authoring.offline import check_together, lint_together, placed, standing
from holdfast.core.authoring.render import document_of, render

__all__ = [
    "Compiled",
    "Document",
    "Parsed",
    "Plan",
    "PutBlob",
    "ReadMembers",
    "SourceFile",
    "Visible",
    "audience_of",
    "carries_conditions",
    "check_together",
    "compile_document",
    "document_of",
    "edits_for",
    "json_schema",
    "lines",
    "lint_together",
    "parse",
    "placed",
    "plan",
    "read",
    "render",
    "settle_conditions",
    "standing",
    "visible_to",
]
