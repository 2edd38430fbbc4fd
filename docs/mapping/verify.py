#!/usr/bin/env python3
"""The mapping from keys to slots of `lb`, once more: see docs/MAPPING.md, which this file follows step by step.

    verify.py                   check vectors.json beside this file; exit code 1 and what differs, if anything does
    verify.py --write           write vectors.json anew, from what is computed here and nothing else
    verify.py owner --mapping ring --slot server1 --slot server2 --slot b:2 132574 alice
                                whom these ids go to, and who would be next

It needs Python 3.9 or newer and nothing else, and shares no code with `lb`. It is written to be read: a mapping is a
function of the slots that gives a function of a key, which gives the key's position and its candidates in order.
"""

import argparse
import ast
import json
import os
import re
import sys
from bisect import bisect_left
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

VERSION = 1
VECTORS = Path(__file__).resolve().parent / "vectors.json"
MAX = 2**64 - 1  # `& MAX` is "modulo 2^64"


class Slot(NamedTuple):
    name: str
    weight: int = 1
    index: int = 0  # only the mapping `slots` uses it


# --- The four mappings ----------------------------------------------------------------------------------------------


def ring(members, seed=0, points=1000):
    circle = sorted(
        (xxh3(numbered(slot.name, j)), slot.name) for slot in members for j in range(points * slot.weight)
    )

    def lookup(key):
        position = xxh3(key, seed)
        start = bisect_left(circle, (position, ""))
        return position, unique(name for _, name in circle[start:] + circle[:start])

    return lookup


def maglev(members, seed=0):
    table = maglev_table(members)
    size, holders = len(table), len({*table} - {None})

    def lookup(key):
        hash = xxh3(key, seed)
        walk = around(hash, hash // size, size)
        return hash % size, unique((table[entry] for entry in walk if holders), holders)

    return lookup


def maglev_table(members, size=65537):
    table = [None] * size

    def free_entries(name):
        offset, skip = (xxh3(numbered(name, j)) for j in (0, 1))
        return (entry for entry in around(offset, skip, size) if table[entry] is None)

    present = [(slot.name, slot.weight, free_entries(slot.name)) for slot in sorted(members) if slot.weight > 0]
    heaviest = max((weight for _, weight, _ in present), default=0)
    turns = ((name, entries) for t in count() for name, weight, entries in present if t * weight % heaviest < weight)
    for name, entries in islice(turns, size if present else 0):
        table[next(entries)] = name
    return table


def around(offset, step, size):
    """Every entry of a table once, in steps of 1 .. size-1; the size is a prime."""
    return ((offset + t * (step % (size - 1) + 1)) % size for t in range(size))


def rendezvous(members, seed=0):
    def score(slot, key):
        text = slot.name.encode() + b"\0" + key
        return max(xxh3(text, (seed + k) & MAX) for k in range(slot.weight))

    def lookup(key):
        scores = {slot.name: score(slot, key) for slot in members if slot.weight > 0}
        return max(scores.values(), default=0), sorted(scores, key=lambda name: (-scores[name], name))

    return lookup


def slots(members, seed=0, slots=512, virtual=9, probing="linear", request_hash="i*i + 2*i + 17",
          server_hash="i*i + j*j + 2*j + 25"):
    table = slots_table(members, slots, virtual, probing, server_hash)
    falls = formula(request_hash)

    def lookup(key):
        position = falls(number(key, seed)) % slots
        return position, unique(name for name in table[position:] + table[:position] if name is not None)

    return lookup


def slots_table(members, slots, virtual, probing, server_hash):
    table = [None] * slots
    wants = formula(server_hash)
    tries = [t * t for t in range(slots // 2 + 1)] if probing == "quadratic" else range(slots)
    for slot in sorted(members, key=lambda slot: slot.index):
        for j in range(virtual * slot.weight):
            wanted = wants(slot.index, j) % slots
            free = (entry for entry in ((wanted + t) % slots for t in tries) if table[entry] is None)
            entry = next(free, None)
            if entry is None:
                raise Full(f"{slot.name} finds no place for its virtual server {j}")
            table[entry] = slot.name
    return table


class Full(Exception):
    """The table of `slots` has no room for these slots, so there is no mapping of them."""


MAPPINGS = {"ring": ring, "maglev": maglev, "rendezvous": rendezvous, "slots": slots}


def unique(names, count=None):
    """Each name once, where it comes first; it can stop looking after so many."""
    found = []
    for name in names:
        if name not in found:
            found.append(name)
            if len(found) == count:
                break
    return found


def numbered(name, j):
    return f"{name}\0{j}".encode()


def number(key, seed):
    """The number of a key in the formulas of `slots`."""
    is_number = seed == 0 and re.fullmatch(rb"0*[0-9]{1,20}", key)
    value = int(key[-20:]) if is_number else MAX + 1
    return value if value <= MAX else xxh3(key, seed)


def formula(text):
    """A formula as a function of i and j. In Python's own grammar operators bind as they do in ours; only the sign of
    powers is another, and decimal numbers may not begin with zeros. Every step is taken modulo 2^64."""
    text = re.sub(r"\b0+(?=[0-9])", "", text.replace("^", "**"))
    tree = ast.parse(f"({text})", mode="eval").body
    steps = {
        ast.Add: lambda a, b: a + b,
        ast.Sub: lambda a, b: a - b,
        ast.Mult: lambda a, b: a * b,
        ast.Div: lambda a, b: a // b if b else 0,
        ast.Mod: lambda a, b: a % b if b else a,
        ast.Pow: lambda a, b: pow(a, b, MAX + 1),
        ast.LShift: lambda a, b: a << b if b < 64 else 0,
        ast.RShift: lambda a, b: a >> b if b < 64 else 0,
        ast.BitAnd: lambda a, b: a & b,
        ast.BitOr: lambda a, b: a | b,
    }

    def value(node, names):
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return names[node.id]
        if isinstance(node, ast.Call):  # pow(a, b)
            kind, (left, right) = ast.Pow, node.args
        else:
            kind, left, right = type(node.op), node.left, node.right
        return steps[kind](value(left, names), value(right, names)) & MAX

    return lambda i, j=0: value(tree, {"i": i, "j": j})


# --- XXH3-64, after the specification of xxHash 0.8 (doc/xxhash_spec.md) --------------------------------------------

PRIME32_1, PRIME32_2, PRIME32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
PRIME64_1, PRIME64_2, PRIME64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
PRIME64_4, PRIME64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
PRIME_MX1, PRIME_MX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25

SECRET = bytes.fromhex("""
    b8fe6c3923a44bbe7c01812cf721ad1c ded46de9839097db7240a4a4b7b3671f cb79e64eccc0e578825ad07dccff7221
    b8084674f743248ee03590e6813a264c 3c2852bb91c300cb88d0658b1b532ea3 71644897a20df94e3819ef46a9deacd8
    a8fa763fe39c343ff9dcbbc7c70b4f1d 8a51e04bcdb45931c89f7ec9d9787364 eac5ac8334d3ebc3c581a0fffa1363eb
    170ddd51b7f0da49d316552629d4689e 2b16be587d47a1fc8ff8b8d17ad031ce 45cb3a8f95160428afd7fbcabb4b407e
""")


def xxh3(data, seed=0):
    length = len(data)
    if length == 0:
        return avalanche_xxh64(seed ^ u64(SECRET, 56) ^ u64(SECRET, 64))
    if length <= 3:
        return xxh3_1_to_3(data, seed)
    if length <= 8:
        return xxh3_4_to_8(data, seed)
    if length <= 16:
        return xxh3_9_to_16(data, seed)
    if length <= 128:
        return xxh3_17_to_128(data, seed)
    if length <= 240:
        return xxh3_129_to_240(data, seed)
    return xxh3_from_241(data, seed)


def xxh3_1_to_3(data, seed):
    length = len(data)
    combined = data[-1] | length << 8 | data[0] << 16 | data[length >> 1] << 24
    return avalanche_xxh64(((u32(SECRET, 0) ^ u32(SECRET, 4)) + seed & MAX) ^ combined)


def xxh3_4_to_8(data, seed):
    length = len(data)
    first, last = u32(data, 0), u32(data, length - 4)
    seed ^= swapped(seed & 0xFFFFFFFF, 4) << 32
    value = ((u64(SECRET, 8) ^ u64(SECRET, 16)) - seed & MAX) ^ (last | first << 32)
    value ^= rotated(value, 49) ^ rotated(value, 24)
    value = value * PRIME_MX2 & MAX
    value ^= (value >> 35) + length
    value = value * PRIME_MX2 & MAX
    return value ^ value >> 28


def xxh3_9_to_16(data, seed):
    length = len(data)
    low = ((u64(SECRET, 24) ^ u64(SECRET, 32)) + seed & MAX) ^ u64(data, 0)
    high = ((u64(SECRET, 40) ^ u64(SECRET, 48)) - seed & MAX) ^ u64(data, length - 8)
    return avalanche(length + swapped(low, 8) + high + folded(low, high) & MAX)


def xxh3_17_to_128(data, seed):
    length = len(data)
    total = length * PRIME64_1
    for i in range((length - 1 >> 5) + 1):
        total += mixed(data, 16 * i, 32 * i, seed) + mixed(data, length - 16 * i - 16, 32 * i + 16, seed)
    return avalanche(total & MAX)


def xxh3_129_to_240(data, seed):
    length = len(data)
    total = length * PRIME64_1 + sum(mixed(data, 16 * i, 16 * i, seed) for i in range(8))
    total = avalanche(total & MAX)
    total += sum(mixed(data, 16 * i, 16 * (i - 8) + 3, seed) for i in range(8, length >> 4))
    return avalanche(total + mixed(data, length - 16, 119, seed) & MAX)


def xxh3_from_241(data, seed):
    length = len(data)
    signs = (1, -1) * 12
    words = ((u64(SECRET, 8 * i) + sign * seed) & MAX for i, sign in enumerate(signs))
    secret = b"".join(word.to_bytes(8, "little") for word in words)
    lanes = [PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1]

    def accumulate(at, offset):
        for i in range(8):
            word = u64(data, at + 8 * i)
            value = word ^ u64(secret, offset + 8 * i)
            lanes[i ^ 1] = lanes[i ^ 1] + word & MAX
            lanes[i] = lanes[i] + (value & 0xFFFFFFFF) * (value >> 32) & MAX

    for stripe in range((length - 1) // 64):  # of 64 bytes; the last one, full or not, comes below
        accumulate(64 * stripe, 8 * (stripe % 16))
        if stripe % 16 == 15:  # the end of a block of 1024 bytes
            for i in range(8):
                lanes[i] = (lanes[i] ^ lanes[i] >> 47 ^ u64(secret, 128 + 8 * i)) * PRIME32_1 & MAX
    accumulate(length - 64, 121)
    total = length * PRIME64_1
    for i in range(0, 8, 2):
        total += folded(lanes[i] ^ u64(secret, 11 + 8 * i), lanes[i + 1] ^ u64(secret, 19 + 8 * i))
    return avalanche(total & MAX)


def mixed(data, at, offset, seed):
    first = u64(data, at) ^ (u64(SECRET, offset) + seed & MAX)
    return folded(first, u64(data, at + 8) ^ (u64(SECRET, offset + 8) - seed & MAX))


def folded(a, b):
    product = a * b
    return product & MAX ^ product >> 64


def avalanche(x):
    x = (x ^ x >> 37) * PRIME_MX1 & MAX
    return x ^ x >> 32


def avalanche_xxh64(x):
    x = (x ^ x >> 33) * PRIME64_2 & MAX
    x = (x ^ x >> 29) * PRIME64_3 & MAX
    return x ^ x >> 32


def rotated(x, by):
    return (x << by | x >> 64 - by) & MAX


def swapped(x, size):
    return int.from_bytes(x.to_bytes(size, "little"), "big")


def u32(data, at):
    return int.from_bytes(data[at:at + 4], "little")


def u64(data, at):
    return int.from_bytes(data[at:at + 8], "little")


# --- What is known from elsewhere, so that an error here cannot make its own vectors --------------------------------

# From the self-test of xxHash (cli/xsum_sanity_check.c): so many bytes of its test data, without a seed and with this.
SANITY_SEED = 0x9E3779B185EBCA8D
SANITY = {
    0: (0x2D06800538D394C2, 0xA8A6B918B2F0364A),
    1: (0xC44BDFF4074EECDB, 0x032BE332DD766EF8),
    6: (0x27B56A84CD2D7325, 0x84589C116AB59AB9),
    12: (0xA713DAF0DFBB77E7, 0xE7303E1B2336DE0E),
    24: (0xA3FE70BF9D3510EB, 0x850E80FC35BDD690),
    48: (0x397DA259ECBA1F11, 0xADC2CBAA44ACC616),
    80: (0xBCDEFBBB2C47C90A, 0xC6DD0CB699532E73),
    195: (0xCD94217EE362EC3A, 0xBA68003D370CB3D9),
    403: (0xCDEB804D65C6DEA4, 0x6259F6ECFD6443FD),
    512: (0x617E49599013CB6B, 0x3CE457DE14C27708),
    2048: (0xDD59E2C3A5F038E0, 0x66F81670669ABABC),
    2099: (0xC6B9D9B3FC9AC765, 0x184F316843663974),
    2240: (0x6E73A90539CF2948, 0x757BA8487D1B5247),
    2367: (0xCB37AEB9E5D361ED, 0xD2DB3415B942B42A),
}

# Published with the classic assignment: the entries of servers 1, 2 and 3.
CLASSIC = {
    "server1": [26, 29, 34, 41, 50, 61, 74, 89, 106],
    "server2": [30, 32, 37, 44, 53, 64, 77, 92, 109],
    "server3": [35, 38, 42, 49, 58, 69, 82, 97, 114],
}


def sanity_bytes(length):
    state, data = PRIME32_1, bytearray()
    for _ in range(length):
        data.append(state >> 56)
        state = state * SANITY_SEED & MAX
    return bytes(data)


def known_values():
    """What differs from the values above, one line each."""
    for length, expected in SANITY.items():
        found = tuple(xxh3(sanity_bytes(length), seed) for seed in (0, SANITY_SEED))
        if found != expected:
            yield f"xxHash's own {length} bytes: {found}, should be {expected}"
    table = slots_table(servers(3), 512, 9, "linear", "i*i + j*j + 2*j + 25")
    for name, expected in CLASSIC.items():
        found = [entry for entry, holder in enumerate(table) if holder == name]
        if found != expected:
            yield f"the published entries of {name}: {found}, should be {expected}"


# --- vectors.json ---------------------------------------------------------------------------------------------------


def checked(document):
    """What differs from the document, one line each."""
    if document["version"] != VERSION:
        yield f"these vectors are of version {document['version']}, this program of {VERSION}"
        return
    for vector in document["hashes"]:
        for seed, expected in vector["hashes"].items():
            found = f"{xxh3(bytes.fromhex(vector['bytes_hex']), int(seed)):016x}"
            if found != expected:
                yield f"XXH3-64 of {vector['bytes_hex'] or 'nothing'}, seed {seed}: {found}, the file has {expected}"
    for case in document["cases"]:
        for difference in checked_case(case):
            yield f"{case['about']} ({case['mapping']}): {difference}"


def checked_case(case):
    found = computed(case, [bytes.fromhex(entry["key_hex"]) for entry in case["keys"]])
    for what in ("refused", "table_digest"):
        if found.get(what) != case.get(what):
            yield f"{what} {found.get(what)}, the file has {case.get(what)}"
    for now, then in zip(found["keys"], case["keys"]):
        for what in ("position", "candidates"):
            if now[what] != then[what]:
                yield f"key {then['key_hex'] or 'of no bytes'}: {what} {now[what]}, the file has {then[what]}"


def computed(case, keys):
    """What a case holds beside its question."""
    members = [Slot(slot["name"], slot["weight"], slot["index"]) for slot in case["slots"]]
    seed, parameters = int(case["seed"]), case["parameters"]
    try:
        lookup = MAPPINGS[case["mapping"]](members, seed, **parameters)
    except Full:
        return {"refused": True, "keys": []}
    answer = {}
    owners = owners_by_position(case["mapping"], members, seed, parameters)
    if owners is not None:
        places = {slot.name: place for place, slot in enumerate(members)}
        answer["table_digest"] = f"{xxh3(bytes(places[name] for name in owners)):016x}"
    answer["keys"] = []
    for key in keys:
        position, candidates = lookup(key)
        answer["keys"].append({"key_hex": key.hex(), "position": str(position), "candidates": candidates})
    return answer


def owners_by_position(mapping, members, seed, parameters):
    """The owner of each position of a table; None if there is no table or no member in it."""
    if not any(slot.weight for slot in members):
        return None
    if mapping == "maglev":
        return maglev_table(members)
    if mapping == "slots":
        at = slots(members, 0, **{**parameters, "request_hash": "i"})  # position i belongs to the key "i"
        return [at(str(position).encode())[1][0] for position in range(parameters["slots"])]
    return None


def servers(count):
    return [Slot(f"server{index}", 1, index) for index in range(1, count + 1)]


def document():
    """All vectors, from what is computed here."""
    pattern = sanity_bytes(2099)
    lengths = [0, 1, 2, 3, 4, 5, 8, 9, 12, 16, 17, 32, 33, 64, 65, 96, 97, 128, 129, 144, 240, 241, 256, 300, 1024,
               1025, 2099]
    inputs = [pattern[:length] for length in lengths]
    inputs += [b"abc", b"132574", b"server1\x000", b"server1\x00999", b"\x00\xff"]
    seeds = [0, 1, SANITY_SEED, MAX]
    hashes = [
        {"bytes_hex": data.hex(), "hashes": {str(seed): f"{xxh3(data, seed):016x}" for seed in seeds}}
        for data in inputs
    ]

    numbers = [b"0", b"7", b"007", b"132574", b"100000", b"999999", b"18446744073709551615", b"18446744073709551616",
               b"0" * 30 + b"7"]
    texts = [b"abc", b"order-42", b"alice@example.org", b"192.0.2.1", b"2001:db8::1", b"a%20b", "ü".encode(),
             "ключ-日本語".encode(), b"\x00\xff", b"", b"+1"]
    long = [pattern[:length] for length in (3, 8, 16, 17, 129, 241, 300)]
    few = [b"132574", b"999999", b"abc", "ü".encode(), b"\x00\xff", b"", pattern[:17]]
    some = numbers + texts
    every = some + long

    odd = ["a", "B", "b", "9.", "x-_.y", "Web-01.EU.example" + ".x" * 23]
    assert len(odd[-1]) == 63
    odd = [Slot(name, 1, index) for name, index in zip(odd, (3, 1, 6, 2, 9, 4))]
    weights = [Slot("server1", 1, 1), Slot("server2", 2, 2), Slot("drained", 0, 3), Slot("big.one", 5, 4)]
    seed = 0x0123456789ABCDEF
    classic = {"slots": 512, "virtual": 9, "probing": "linear", "request_hash": "i*i + 2*i + 17",
               "server_hash": "i*i + j*j + 2*j + 25"}
    # XXH3 mixes 16 bytes by a product of two numbers, and with this seed one of them is 0 if bytes 8 to 15 are
    # "-collide". So two such names hash alike, with whatever makes them 24 to 32 bytes: most scores are ties.
    twin_seed = (u64(SECRET, 8) - u64(b"-collide", 0)) & MAX
    twins = [Slot("zebra-01-collide-always", 1, 1), Slot("aaron-01-collide-always", 1, 2), *servers(3)[2:]]
    assert len({xxh3(numbered(slot.name, 999), twin_seed) for slot in twins[:2]}) == 1
    six_weights = [Slot(f"server{index}", weight, index) for index, weight in enumerate((1, 2, 5, 1, 0, 100), 1)]

    questions = []
    for mapping, parameters in (("ring", {"points": 1000}), ("maglev", {}), ("rendezvous", {}), ("slots", classic)):
        def ask(about, members, keys, seed=0, changed={}):
            questions.append((about, mapping, {**parameters, **changed}, seed, members, keys))

        ask("one slot", servers(1), few)
        ask("three slots", servers(3), every)
        ask("six slots", servers(6), some)
        ask("odd names, indices with holes, in no order", odd, few)
        ask("weights 1, 2, 0 and 5", weights, some)
        ask("a seed", servers(3), every, seed)
        ask("weights and a seed", weights[::-1], some, seed)
        ask("weights and the last seed", weights, few, MAX)
        ask("nobody with a weight", [Slot("server1", 0, 1)], few[:2])
        if mapping == "ring":
            at = [numbered(f"server{n}", j) for n, j in ((1, 0), (2, 999), (3, 500), (1, 1000))]
            ask("keys that are exactly at a position, and one that is not", servers(3), at)
            ask("40 points", servers(6), few, 0, {"points": 40})
            ask("under a seed they are nowhere in particular", servers(3), at, seed)
            ask("one point, weights and a seed", weights, some, seed, {"points": 1})
        elif mapping != "slots":
            ask("weights up to 100", six_weights, few)
            if mapping == "rendezvous":
                ask("names that hash alike", twins, few + [b"7", b"42", b"1234"], twin_seed)
            else:
                tens = [Slot(f"server{index}", 10 * index, index) for index in (1, 2, 3)]
                ask("only the proportions of weights matter", tens, few)
        else:
            quadratic = {"probing": "quadratic"}
            small = {"slots": 64, "virtual": 5, "probing": "quadratic", "request_hash": "i^3",
                     "server_hash": "i*7 + pow(j, 2)"}
            odd_formulas = {"slots": 101, "virtual": 4,
                            "request_hash": "(i >> 3) % 0x65 + i / 7 * 2 - (i & 0x0F | 3) << 1",
                            "server_hash": "0 - i^2^3 * 0017 + j / (i - 1) + (j << 70) + j % (i - 2) * 11"}
            ask("the second server is gone", servers(3)[::2] + [Slot("server4", 1, 4)], few)
            ask("quadratic probing", servers(20), few, 0, quadratic)
            ask("another shape, quadratic, and formulas", servers(6), some, 0, small)
            ask("another shape, quadratic, weights and a seed", weights, some, seed, {**small, "virtual": 3})
            ask("formulas with all operators", servers(6), some, 0, odd_formulas)
            crowded = {**quadratic, "slots": 13, "virtual": 1, "server_hash": "25"}
            ask("quadratic probing finds the last of seven places", servers(7), few, 0, crowded)
            ask("and no eighth", servers(8), [], 0, crowded)
            rivals = [Slot(f"server{n}", 1, 8 * n - 7) for n in (1, 2, 3, 4)]
            ask("quadratic probing finds no place", rivals, [], 0, {**quadratic, "slots": 8, "virtual": 1})
            ask("57 servers are too many", servers(57), [])
            ask("weights are too large", [Slot("a", 50, 1), Slot("b", 7, 2)], [])
    cases = []
    for about, mapping, parameters, seed, members, keys in questions:
        case = {
            "about": about, "mapping": mapping, "parameters": parameters, "seed": str(seed),
            "slots": [{"index": slot.index, "name": slot.name, "weight": slot.weight} for slot in members],
        }
        cases.append({**case, **computed(case, keys)})
    return {"version": VERSION, "hashes": hashes, "cases": cases}


def text_of(document):
    """The document as JSON, with a line for each hash and for each key."""
    def lines(items, indent):
        return "[" + ",".join(f"\n{indent}{json.dumps(item)}" for item in items) + "]"

    def case_text(case):
        head = json.dumps({what: value for what, value in case.items() if what not in ("slots", "keys")})
        places = ", ".join(json.dumps(slot) for slot in case["slots"])
        return f'  {head[:-1]},\n   "slots": [{places}],\n   "keys": {lines(case["keys"], "    ")}}}'

    cases = ",\n".join(case_text(case) for case in document["cases"])
    hashes = lines(document["hashes"], "  ")
    return f'{{"version": {document["version"]},\n "hashes": {hashes},\n "cases": [\n{cases}]}}\n'


# --- The command line -----------------------------------------------------------------------------------------------


def verify():
    document = json.loads(VECTORS.read_text(encoding="utf-8"))
    differences = [*known_values(), *checked(document)]
    if differences:
        print("\n".join(differences))
        print(f"{VECTORS.name}: {len(differences)} differences")
        return 1
    cases = document["cases"]
    hashes = sum(len(vector["hashes"]) for vector in document["hashes"])
    keys, tables = sum(len(case["keys"]) for case in cases), sum("table_digest" in case for case in cases)
    print(f"mapping version {VERSION}: {2 * len(SANITY)} values of xxHash's own, {hashes} hashes, {len(cases)} cases "
          f"with {keys} keys and {tables} tables: all agree")
    return 0


def predict(args):
    members = [Slot(slot.name, slot.weight, slot.index or place) for place, slot in enumerate(args.slot, 1)]
    names = ("points",) if args.mapping == "ring" else ()
    if args.mapping == "slots":
        names = ("slots", "virtual", "probing", "request_hash", "server_hash")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    try:
        lookup = MAPPINGS[args.mapping](members, args.hash_seed, **given)
    except Full as full:
        print(f"there is no such mapping: {full}", file=sys.stderr)
        return 1
    for id in args.id:
        print(id, *lookup(os.fsencode(id))[1])
    return 0


def slot(text):
    """NAME, NAME:WEIGHT or NAME:WEIGHT:INDEX."""
    name, *numbers = text.split(":")
    fits = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}(:[0-9]{1,9}){0,2}", text)
    if not fits or int((numbers or ["1"])[0]) > 100:
        raise argparse.ArgumentTypeError("a slot is NAME, NAME:WEIGHT or NAME:WEIGHT:INDEX, its weight 0 to 100")
    return Slot(name, *map(int, numbers))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write vectors.json anew")
    owner = parser.add_subparsers(dest="command").add_parser("owner", help="whom ids go to")
    owner.add_argument("--mapping", choices=MAPPINGS, default="ring")
    owner.add_argument("--slot", type=slot, action="append", required=True, metavar="NAME[:WEIGHT[:INDEX]]")
    owner.add_argument("--hash-seed", type=int, default=0)
    owner.add_argument("--points", type=int, metavar="P")
    owner.add_argument("--slots", type=int, metavar="M")
    owner.add_argument("--virtual", type=int, metavar="K")
    owner.add_argument("--probing", choices=("linear", "quadratic"))
    owner.add_argument("--request-hash", metavar="FORMULA")
    owner.add_argument("--server-hash", metavar="FORMULA")
    owner.add_argument("id", nargs="+")
    args = parser.parse_args()
    if args.command == "owner":
        return predict(args)
    if args.write:
        VECTORS.write_text(text_of(document()), encoding="utf-8")
    return verify()


if __name__ == "__main__":
    sys.exit(main())
