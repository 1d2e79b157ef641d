"""The files that every reader must refuse, each for one reason: what stands around the content,
and the texts. ``rejected_network.py`` has the graph and the weights."""

from __future__ import annotations

import json
import struct

import rejected_network
import stream
from accepted import minimal, smallest
from draft import (
    CHECKSUM,
    LIMIT,
    MALFORMED,
    TRUNCATED,
    UNKNOWN,
    VERSION,
    Cases,
    Rejected,
)
from stream import ACTIVATIONS, GRAPH, INPUT, LABELS, RECORD, WEIGHTS, Section


def rejected() -> dict[str, Rejected]:
    """Make all files, by name."""
    cases = Cases()
    _beginning(cases)
    _header(cases)
    _sections(cases)
    _input(cases)
    rejected_network.graph(cases)
    rejected_network.limits(cases)
    rejected_network.weights(cases)
    rejected_network.huffman(cases)
    _labels(cases)
    _record(cases)
    _activations(cases)
    return cases.made


def _beginning(cases: Cases) -> None:
    with cases.case("empty", UNKNOWN, "no byte at all") as d:
        d.change = lambda data: b""
    with cases.case("magic", UNKNOWN, "the magic of a PNG") as d:
        d.file.magic = b"\x89PNG\r\n\x1a\n"
    with cases.case("cut_magic", TRUNCATED, "ends inside the magic") as d:
        d.change = lambda data: data[:5]
    with cases.case("cut_header", TRUNCATED, "ends inside the header") as d:
        d.change = lambda data: data[:20]
    with cases.case("cut_table", TRUNCATED, "ends inside the section table") as d:
        d.change = lambda data: data[:60]
    with cases.case("cut_end", TRUNCATED, "the last byte is missing") as d:
        d.change = lambda data: data[:-1]
    with cases.case("gigabytes", LIMIT, "the header claims 4,294,967,295 bytes") as d:
        d.file.num_bytes = (1 << 32) - 1
    with cases.case("version", VERSION, "version 3") as d:
        d.file.version = 3
    with cases.case("version_draft", VERSION, "version 0, which was a draft") as d:
        d.file.version = 0
    with cases.case("crc_header", CHECKSUM, "the checksum of header and table") as d:
        d.file.header_crc = 1
    with cases.case("crc_section", CHECKSUM, "the checksum of RECORD") as d:
        d.file.section(RECORD).crc = 0
    with cases.case("crc_file", CHECKSUM, "the checksum of the file") as d:
        d.file.file_crc = 1 << 31


def _header(cases: Cases) -> None:
    with cases.case("appended", MALFORMED, "a byte behind the end") as d:
        d.change = lambda data: data + b"\0"
    with cases.case("header_reserved", MALFORMED, "bytes 10 and 11 are not 0") as d:
        d.file.reserved = 1
    with cases.case("sections_none", MALFORMED, "no sections") as d:
        d.file.sections = []
    with cases.case("sections_17", MALFORMED, "17 sections") as d:
        d.file.sections += [Section(kind=100 + i, body=b"") for i in range(12)]
    for i, what in enumerate(("number of weights", "largest channel", "peak activations")):
        with cases.case(f"needs_{i}", MALFORMED, f"the header's {what} is one too large") as d:
            d.file.needs[i] += 1
    with cases.case("limit_header", LIMIT, "the header claims 2^27 + 1 weights") as d:
        d.file.needs[0] = (1 << 27) + 1
    with cases.case("limit_weights_a_byte", LIMIT, "4,097 weights for each byte of WEIGHTS") as d:
        d.file.needs[0] = 4097 * len(d.body(WEIGHTS))


def _sections(cases: Cases) -> None:
    with cases.case("section_unknown", VERSION, "an unknown mandatory section") as d:
        d.file.sections.append(Section(kind=99, body=b"x", flags=1))
    with cases.case("section_flags", MALFORMED, "bit 1 of a section's flags") as d:
        d.file.sections.append(Section(kind=99, body=b"x", flags=2))
    with cases.case("section_reserved", MALFORMED, "bytes 2 and 3 of an entry are not 0") as d:
        d.file.section(GRAPH).reserved = 256
    with cases.case("section_optional", MALFORMED, "GRAPH without the flag mandatory") as d:
        d.file.section(GRAPH).flags = 0
    with cases.case("section_mandatory", MALFORMED, "RECORD with the flag mandatory") as d:
        d.file.section(RECORD).flags = 1
    with cases.case("section_twice", MALFORMED, "two sections INPUT") as d:
        d.file.sections.append(Section(kind=INPUT, body=d.body(INPUT)))
    for name, copies, flags, why in (
        ("twice", 2, 0, "two sections ACTIVATIONS"),
        ("mandatory", 1, 1, "ACTIVATIONS with the flag mandatory"),
    ):
        with cases.case(f"activations_{name}", MALFORMED, why, model=smallest) as d:
            body = 3 * struct.pack("<HB", 0x3F80, 0)
            d.file.sections += [
                Section(kind=ACTIVATIONS, body=body, flags=flags) for _ in range(copies)
            ]
    for name, kind in (
        ("graph", GRAPH), ("input", INPUT), ("weights", WEIGHTS), ("labels", LABELS),
        ("record", RECORD),
    ):  # fmt: skip
        with cases.case(f"section_no_{name}", MALFORMED, f"no {name.upper()}") as d:
            d.file.sections = [section for section in d.file.sections if section.kind != kind]
    with cases.case("section_beyond", MALFORMED, "the last section ends behind the file") as d:
        d.file.section(RECORD).num_bytes = len(d.body(RECORD)) + 5
    with cases.case("section_4g", MALFORMED, "a section of 4,294,967,295 bytes") as d:
        d.file.section(RECORD).num_bytes = (1 << 32) - 1
    with cases.case("section_rest", MALFORMED, "a byte between the last section and the end") as d:
        d.file.sections.append(Section(kind=99, body=b"x", num_bytes=0, crc=0))


def _input(cases: Cases) -> None:
    for name, i, value, why in (
        ("channels", 0, 3, "channels 3"),
        ("crop_0", 2, 0, "a crop without rows"),
        ("crop_beyond", 1, 0, "a crop larger than what it is cut from"),
        ("crop", 3, 2, "another crop than tensor 0"),
        ("deviation_0", 5, 0, "a deviation of 0"),
        ("deviation_negative", 5, -65536, "a deviation below 0"),
    ):
        with cases.case(f"input_{name}", MALFORMED, why) as d:
            d.input[i] = value
            if name == "crop":
                d.input[1] = 2
    with cases.case("input_rgb", MALFORMED, "three channels, tensor 0 has one") as d:
        d.input[0] = 1
        d.input += d.input[4:] * 2
    with cases.case("input_short", MALFORMED, "ends inside the deviation") as d:
        d.file.section(INPUT).body = d.body(INPUT)[:-1]


def _labels(cases: Cases) -> None:
    names = b"0\n1"
    for name, ids, labels, why in (
        ("ids", 3, names, "ids 3"),
        ("few", 0, b"0", "one name for two classes"),
        ("odd", 2, b"0\n1\na", "two names and one id"),
        ("empty_name", 0, b"0\n", "a name of no characters"),
        ("long_name", 0, b"0\n" + b"1" * 257, "a name of 257 characters"),
        ("control", 0, b"0\n\x1b[31m", "a name with a terminal escape"),
        ("direction", 0, "0\n\u202e1".encode(), "a name that turns the direction of writing"),
        ("same_names", 0, b"0\n0", "equal names without ids"),
        ("same_ids", 2, b"0\n1\na\na", "equal ids"),
        ("empty_id", 2, b"0\n1\na\n", "an id of no characters"),
        ("long_id", 2, b"0\n1\na\n" + b"b" * 257, "an id of 257 characters"),
        ("control_id", 2, b"0\n1\na\n\x1b[31m", "an id with a terminal escape"),
        ("ilsvrc", 1, names, "the ids of 1,000 classes for two"),
        ("utf8", 0, b"0\n\xff", "not UTF-8"),
        ("utf8_surrogate", 0, b"0\n\xed\xa0\x80", "a surrogate, which UTF-8 does not have"),
    ):
        with cases.case(f"labels_{name}", MALFORMED, why, c=None) as d:
            d.ids, d.labels = ids, labels
    with cases.case("labels_short", MALFORMED, "ends inside the number of bytes") as d:
        d.file.section(LABELS).body = b"\0\1\0\0"
    with cases.case("labels_rest", MALFORMED, "bytes behind the stream of the text") as d:
        d.file.section(LABELS).body = d.body(LABELS) + b"x" * 5
    with cases.case("labels_stops", MALFORMED, "a text of more bytes than its stream has") as d:
        d.file.section(LABELS).body = b"\0" + stream.text(names, 1000)
    with cases.case("limit_labels", LIMIT, "a text of 2^22 + 1 bytes") as d:
        d.file.section(LABELS).body = b"\0" + stream.text(names, (1 << 22) + 1)


def _record(cases: Cases) -> None:
    for name, text, why in (
        ("json", b'{"spec":', "not JSON"),
        ("array", b"[]", "no object"),
        ("utf8", b'{"spec":"\xc3"}', "not UTF-8"),
    ):
        with cases.case(f"record_{name}", MALFORMED, why, c=None) as d:
            d.file.section(RECORD).body = stream.text(text)
    with cases.case("record_no_spec", MALFORMED, "no member spec", c=None) as d:
        del d.record["spec"]
    with cases.case("record_spec", MALFORMED, "another network than GRAPH", c=None) as d:
        d.record["spec"]["convs"][0]["stride"] = 2
    with cases.case("record_mean", MALFORMED, "another mean than INPUT", c=None) as d:
        d.record["preprocessing"]["mean"] = [9]
    with cases.case("record_provenance", MALFORMED, "a terminal escape in it", c=None) as d:
        d.record["provenance"] = {"method": "\x1b[2J"}
    with cases.case("record_member", MALFORMED, "a member that there is not", c=None) as d:
        d.record["author"] = "x"
    with cases.case("record_twice", MALFORMED, "a member that stands twice", c=None) as d:
        text = json.dumps(d.record).encode()
        d.file.section(RECORD).body = stream.text(text[:-1] + b', "provenance":{},"provenance":{}}')
    with cases.case("record_resize", MALFORMED, "a short side of 4,097 pixels", c=None) as d:
        d.input[1] = d.record["preprocessing"]["resize"] = 4097
    with cases.case("record_values", MALFORMED, "provenance of over 10,000 values", c=None) as d:
        d.record["provenance"] = {"x": [0] * 9_998}
    with cases.case("record_deep", MALFORMED, "provenance of 33 levels", c=None) as d:
        deep: object = 0
        for _ in range(32):
            deep = [deep]
        d.record["provenance"] = {"x": deep}
    with cases.case("limit_record", LIMIT, "a text of 4,294,967,295 bytes") as d:
        d.file.section(RECORD).body = struct.pack("<I", (1 << 32) - 1) + bytes(8)


def _activations(cases: Cases) -> None:
    """The reader in C leaves the content to the client, which refuses it likewise."""
    one = struct.pack("<HB", 0x3F80, 0)
    for name, body, why, model in (
        ("headless", b"", "of a graph without a head", minimal),
        ("few", 2 * one, "two scales for three tensors", smallest),
        ("many", 4 * one, "four scales for three tensors", smallest),
        ("step_0", struct.pack("<HB", 0, 0) + 2 * one, "a step of 0", smallest),
        ("step_negative", struct.pack("<HB", 0xBF80, 0) + 2 * one, "a step below 0", smallest),
        (
            "step_small",
            struct.pack("<HB", 0x0040, 0) + 2 * one,
            "a step below the normal",
            smallest,
        ),
        ("step_nan", struct.pack("<HB", 0x7FC0, 0) + 2 * one, "a step that is no number", smallest),
        ("step_infinite", struct.pack("<HB", 0x7F80, 0) + 2 * one, "an infinite step", smallest),
    ):
        with cases.case(f"activations_{name}", MALFORMED, why, c=None, model=model) as d:
            d.file.sections.append(Section(kind=ACTIVATIONS, body=body))
