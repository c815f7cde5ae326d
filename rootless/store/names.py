"""Random container names: an adjective, an underscore, a noun.

Owns the two word lists (ours: weather and light before landscapes and animals).  Whether a name is free
is the container store's to find out.
"""

from __future__ import annotations

import os


def _words(text: str) -> list[str]:
    return text.split()


_ADJECTIVES = _words(
    "amber ample autumn balmy bold brave breezy bright brisk calm cheerful clear clever cloudy cool "
    "copper coral cosy crimson crisp curious daring dawning deep dewy distant dusky eager early easy "
    "even fair fearless fleet fresh frosty gentle gleaming golden graceful grand green happy hardy "
    "hazy hidden honest humble icy indigo ivory jolly keen kind lasting leafy light little lively "
    "lofty loyal lucid lucky lunar mellow merry mild misty modest mossy neat nimble noble northern "
    "open patient peaceful pearly placid plain playful polar proud quick quiet rainy rapid ready "
    "rising rosy rugged rustic sandy sharp shining silent silver simple sleepy smooth snowy soft "
    "solar southern spry starry steady still stormy strong sturdy summer sunny swift tender tidal "
    "tidy tranquil true twilight upbeat vivid warm watchful wild windy winter wise witty woody young"
)

_NOUNS = _words(
    "acorn alder antelope aspen badger basin bay beach beaver beech birch bison boulder brook "
    "canyon cape caribou cave cedar cliff clover condor coral cormorant cove crane creek cricket "
    "curlew cypress dale delta dolphin dove dune eagle egret elk elm falcon fern field finch fjord "
    "forest fox gannet gazelle geyser glacier glade glen gorge grove gull harbor hare harrier hawk "
    "heath heron hill hollow ibex ibis inlet island jackdaw jay juniper kestrel kingfisher kite "
    "lagoon lake larch lark lichen linnet lynx magpie maple marmot marsh marten meadow mesa moor "
    "moose moss mountain newt oak oasis ocean orca oriole osprey otter owl peak pebble pelican "
    "penguin petrel pine plain plateau plover pond poplar prairie puffin quail rapids raven reed "
    "reef ridge river robin rowan salmon sandpiper savanna seal shore sparrow spring spruce squirrel "
    "starling stork stream summit swallow swan swift tern thicket thrush trout tundra turtle valley "
    "walrus warbler waterfall willow wolf woodland wren yew"
)


def generate() -> str:
    """A name such as ``misty_heron``; every call draws anew."""
    first = _ADJECTIVES[int.from_bytes(os.urandom(4), "little") % len(_ADJECTIVES)]
    second = _NOUNS[int.from_bytes(os.urandom(4), "little") % len(_NOUNS)]
    return f"{first}_{second}"
