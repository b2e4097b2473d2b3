"""Random damage to files: to their bytes, and to the values in JSON. Used by the fuzz tests."""

import json

# what a value in JSON may be replaced by
STRANGE = [0, 1, -1, 2, 7, 0.5, -0.5, 1e-300, 1e300, -1e300, 10**13, -10**13, 10**30, 2**63, float("inf"), float("nan"),
           True, False, None, "", "x", "digits", "../..", "\0", "\ud800", [], {}, [1], [[]], {"a": 1}, [None] * 3,
           "9" * 400]


def cut(content, rng):
    return content[:rng.integers(len(content) + 1)]


def flip_bits(content, rng):
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 9) if damaged else 0):
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
    return bytes(damaged)


def overwrite(content, rng):
    place = rng.integers(len(content) + 1)
    filler = rng.choice([b"\0", b"\xff", b"9", b"{", b'"', b"e", b"-"])
    return content[:place] + bytes(filler) * int(rng.integers(1, 40)) + content[place + int(rng.integers(0, 40)):]


def insert(content, rng):
    place = rng.integers(len(content) + 1)
    return content[:place] + rng.bytes(int(rng.integers(1, 50))) + content[place:]


def repeat(content, rng):
    a, b = sorted(rng.integers(len(content) + 1, size=2))
    return content[:b] + content[a:b] * int(rng.integers(1, 4)) + content[b:]


def nonsense(content, rng):
    return rng.bytes(int(rng.integers(2000)))


def nothing_left(content, rng):
    return b""


BYTES = (cut, flip_bits, overwrite, insert, repeat, nonsense, nothing_left)


def places(value, path=()):
    """All places in nested lists and dictionaries, as tuples of keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def change_value(document, rng):
    """Replace, remove or rename one value of a JSON document, in place."""
    found = list(places(document))
    *way, last = found[rng.integers(len(found))]
    holder = document
    for key in way:
        holder = holder[key]
    kind = rng.integers(8)
    if kind == 0:
        del holder[last]
    elif kind == 1 and isinstance(holder, dict):
        holder[str(rng.choice(["x", "steps", "epochs", "seed", "name"]))] = holder.pop(last)
    elif kind == 2 and isinstance(holder[last], int | float) and not isinstance(holder[last], bool):
        holder[last] *= float(rng.choice([-1, 0.5, 1e6, 1e-6]))
    else:
        holder[last] = STRANGE[rng.integers(len(STRANGE))]


def damage(name, content, rng):
    """Return the content of a file, damaged at random. JSON is damaged in its values in three of four cases."""
    if name.endswith(".json") and rng.integers(4):
        document = json.loads(content)
        for _ in range(rng.integers(1, 3)):
            change_value(document, rng)
        return json.dumps(document).encode()
    if name.endswith(".jsonl") and rng.integers(4):
        lines = [json.loads(line) for line in content.splitlines()]
        change_value(lines, rng)
        return "".join(json.dumps(line) + "\n" for line in lines).encode()
    if name.endswith(".safetensors") and rng.integers(2):
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8:8 + length])
        change_value(header, rng)
        new = json.dumps(header).encode()
        return len(new).to_bytes(8, "little") + new + content[8 + length:]
    return BYTES[rng.integers(len(BYTES))](content, rng)
