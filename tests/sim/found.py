"""Schedules that a search once called a failure; above each what was wrong, in the core or in the search.

A schedule is a token, as ``tercet sim explore --replay`` takes it; ``test_explorer.py`` replays them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: By seed, in the order in which they were found.
FOUND: Final[Mapping[int, str]] = {
    # A leader that removed itself and is cut off leaves somebody who can lead: the other of two voters holds
    # the removal, does not know that it is committed, and is refused by the removed one, whose log is longer
    # by an entry that nobody needs. The refusal must tell.
    3_003_477: (
        "ktwAEc4ALdRVBM4AehIAw8MKzQfQzQPozQQAzQEAwwIAAMIAzQGQlJUQzgABo7kBzgAGGoAAlQDOACGcqQIAAJUNzgAk6k8BQQCV"
        "A84AJXNvEs4AHffgAQ"
    ),
    # A late wish for another leader is no fall of the leader: a transfer asked for under faults reached the
    # leader seconds after they had ended.
    4_508_275: (
        "ktwAEc4ARMpzBc4AehIAw8MKzQfQzQPozQQAzQEAwwAAAMIAzQGQlJUOzgBg_ccFAACVDs4AbCVJBQUAlQjOAGwlSVHOAEISEACV"
        "C84AehIALgAB"
    ),
    # A leader that has yet to apply a removal may fall: one of its two voters was removed, which the leader
    # applied only seconds later: until then it needs both, and one of them was cut off.
    4_536_529: (
        "ktwAEc4ARTjRBc4AehIAw8MFzQfQzQPozQQAzQEAwwQAAMIAzQGQmJUNzgAKoQ0BzUJjAZUNzgAPF1kBJQCVDc4AEecdAWEAlQPO"
        "AESBeRLOABFVgAGVCc4AXiWQBc4ABPGgAJUNzgBgt4EERQCVCs4AY5QwBM4AOB8wAJULzgB6EgAuAAE"
    ),
    # What a lone leader never wrote and never told is no log: the only voter led a term in memory, crashed,
    # and led it again with other entries.
    4_568_760: (
        "ktwAEc4ARba4BM4AehIAwsMDzQfQzQPozQQAzQEAwwQAAMIAzgACSfCYlQPOAAsJ1QjOACW4QAGVBc4ACzZ1AxQAlQ3OAA3OJQHO"
        "AENBRAGVDM4ADdINAs4ADDUAAZUMzgAfW1gEzgAMNQABlQDOADsOPQQAAJUJzgA7Fg0CzgBRa8AAlQLOAE6Q5wLOAAMNQAI"
    ),
    # A lone leader that never wrote its term never led it: it led term 3 in memory, for the length of a
    # write; after a crash another led it.
    6_778_686: (
        "ktwAEc4AZ28-BM4AehIAw8MKzQfQzQPozQQAzQEAwwIAAMIAzQGQk5UNzgAt5KEBzgBEZEEAlQLOAEZa5QHOAAw1AACVDM4AQ5Dg"
        "As4ADDUAAA"
    ),
    # A learner with the longer log hears that it is a voter now: the only voter took in a second one and
    # crashed before saying so. The new one, whose log was longer, refused it, and would not stand itself. The
    # request for its vote must tell.
    6_715_153: (
        "ktwAEc4AZncRBc4AehIAw8MKzQfQzQfQzQQAzQEAwwAAAMIAzQGQlpUNzgAbPPkDzgBDJGMBlQ3OADnBBwHOAEVFYQCVDc4ARA9D"
        "AWQAlQ3OAF7ZQQLNIUEClQDOAF7ZowIAAJUMzgBe4RECzQfQAw"
    ),
    # A member asks before it takes late news for a loss: removed, wiped, added again under its id, and
    # crashed while it wrote the first entries. A heartbeat from before its removal told what its first life
    # had confirmed, and it could not know better.
    8_361_091: (
        "ktwAEc4Af5SDA84AehIAw8MKzQPozQPozQQAzQEAwwIAAMIAzQGQlpUNzgBQ6lsCYwCVDc4AUV7xAkMAlQfOAFELKyPOAAGOcACV"
        "D84AUcIpA80nEACVDc4AUkL9AmMAlQzOAFJYFQPNB9AF"
    ),
    # A member that heard an append to its first life asks too: as before, but the wiped node took a late
    # append for its own, so the session agreed.
    9_377_014: (
        "ktwAEc4AjxT2Bc4AehIAw8MKzU4gzQfQzQQAzQEAwwMAAMIAzQGQlpUNzgBEufEBZQCVDc4ASCSXAUUAlQnOAEYLcQXNfQAAlQjO"
        "AEa0ZRXOAAU_wACVCM4ASMinFc4ABiJQAJUPzgBKeLsFzScQAA"
    ),
    # Without pre vote chance has time to decide an election: of two voters the one with the shorter log
    # campaigns first, twenty times in a row.
    9_099_845: (
        "ktwAEc4AitpFBc4AehIAwsIKzQfQzT6AzQQAzQEAwwMAAMIAzQGQmpUEzgAPlh0CzgAULBAAlQ3OAB9ymwEiAJUEzgAgry0BzgAH"
        "kYAAlQXOACS0yQIUAZUDzgAqHA8CzgAi4bAAlQ3OADdbqwMkAJUNzgA6-WkDzgBCZSIBlQ3OAD9NewNDAJUFzgBTbdcEBQCVBc4A"
        "XR6NARQB"
    ),
    # A late wish for a voter that is down is no stillness: a second copy of a proposal, to make a voter of a
    # node that is left out in the end, came after the faults had ended. It was committed, and those that were
    # left were no majority any more.
    20_290_394: (
        "ktwAEc4BNZtaBc4AehIAwsMDzU4gzQPozQQAzQEAwwQAAMIAzQGQ3AAalQLOAANyHQLNTiAAlQLOAAZ-vQPNTiAElQXOAAkCDQEUAJ"
        "UCzgAN_F8BzU4gBJUFzgAQhOUBFACVAs4AFNg7Ac4AG3dAApUFzgAYIU8EFACVDc4AFGeTA2UAlQXOABaRfQMUBJUIzgAZlgA0zgAw"
        "vJAAlRHOAB0sUQTOAB6EgACVAM4AKCZDAwAAlQXOAChwOwIUA5UFzgAqLSUCBQCVBc4AMSfZAxQFlQXOADFS1wEUA5UCzgAyLhEDzg"
        "ADDUAElQXOADJhUQEUA5UFzgA7kEMCFACVBc4AOqyRAxQFlQjOAESFNzHNdTAAlQ3OAETG5QFhAJUNzgBG7WEDJQCVB84ARu1hMc4A"
        "OMNAAJUFzgB59KMEFACVC84AehIAGgAA"
    ),
    # A change that travels while its leader crashes is no stillness either: as before, but what was late was
    # the leader's append; no log on disk held the change.
    30_053_923: (
        "ktwAE84BypYjBc4AehIAw8MKzQfQzT6AzQQAzQEAwwAAAMIAzQGQAACalRADBc4ABhqAAJUQzgADwMUDzgAB1MAAlQ3OAFIvyQRlAJ"
        "UNzgBSwN0EYQKVEM4AU6uZAc4ABhqAAJUNzgBpMYEEAACVEM4AcES3As4ABhqAAJUNzgB4ll8EJQCVAs4AeLRJBM1OIAOVC84AehIA"
        "GgAA"
    ),
}
