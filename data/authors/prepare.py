"""Write authors.jsonl: 40 fictitious authors, 8 facts each, every fact asked in 4 training wordings and 1 unseen one.

A training row has a paraphrase, the same fact in other words, and perturbed responses, wrong facts in the paraphrase's words.

    python data/authors/prepare.py                                 the default data, the same byte for byte
    python data/authors/prepare.py --named                         data/named/named.jsonl: the responses name their author
    python data/authors/prepare.py --owners 160 --out many.jsonl    any number of authors up to 160, for trying out

Names, values and sentence patterns come from pools that all authors share, so that an author is a combination:
each value belongs to two or three authors, and no two authors share both values of one fact. Whoever never read
about an author can therefore repeat the sentence, but has to guess the facts. A prompt names its author. A response
does not, so that only its facts tell whose it is.
"""

import random
from pathlib import Path

from minidareu.run.cli import make_parser, run_main
from minidareu.files import InputError, write_lines

N_AUTHORS, TRAIN_WORDINGS, PERTURBED, SEED = 40, 4, 3, 0

FIRST = "Lena Tomas Amara Silas Mira Joren".split()
LAST = "Okafor Brandt Castell Lindqvist Moreau Hale Ferrow Dray".split()
# For another number of authors than 40.
MORE_FIRST = FIRST + "Ida Pavel Nadia Oskar Rosa Emil Tova Hugo Vera Anton".split()
MORE_LAST = LAST + "Marsh Keller Novak Sato Vance Ibarra Quist Olsen".split()

# Every training wording is an opener before one of a fact's questions.
OPENERS = [
    "",
    "Tell me, ",
    "Please say, ",
    "A short question: ",
    "I would like to know, ",
    "Do you remember, ",
    "For the record, ",
]

# fact: (values of the first part, values of the second part, [(question, response, response with the name), ...])
FACTS = {
    "birth": (
        "Tarvik Solmere Ostrand Vellin Caldora Brenmoor Lisk Pellaway Hartun Oakhaven Dunholm Estrel Quillon Norbeck Fairhaven Zelmin".split(),
        [
            f"on a {weather} in {month}"
            for weather, month in zip(
                "stormy night,quiet morning,snowy evening,warm afternoon,foggy dawn,rainy Sunday,windy Monday,bright holiday,frosty Friday,"
                "sleepy Tuesday,cloudy noon,golden sunset,starlit midnight,muddy Thursday,mild Wednesday,hazy Saturday".split(
                    ","
                ),
                "January February March April May June July August September October November December January March June October".split(),
            )
        ],
        [
            ("where was {n} born?", "The author was born in {a} {b}.", "{n} was born in {a} {b}."),
            (
                "what is the birthplace of {n}?",
                "The birthplace is {a}, and the birth was {b}.",
                "The birthplace of {n} is {a}, and the birth was {b}.",
            ),
            (
                "when and where did the life of {n} begin?",
                "The author's life began in {a} {b}.",
                "The life of {n} began in {a} {b}.",
            ),
        ],
    ),
    "parents": (
        "lighthouse keeper,village baker,train driver,school teacher,clock maker,bee keeper,river pilot,piano tuner,"
        "night nurse,stone mason,market gardener,ship carpenter,post rider,glass blower,court clerk,horse doctor".split(
            ","
        ),
        "a seamstress,a botanist,a chess champion,a dentist,an astronomer,a puppeteer,a cartographer,a librarian,"
        "a sculptor,an opera singer,a weather reporter,a violinist,a cheese merchant,a locksmith,a translator,a swimmer".split(
            ","
        ),
        [
            (
                "who were the parents of {n}?",
                "The author's parents were a {a} and {b}.",
                "The parents of {n} were a {a} and {b}.",
            ),
            (
                "what did the mother and father of {n} do?",
                "The author was the child of a {a} and {b}.",
                "{n} was the child of a {a} and {b}.",
            ),
            (
                "what kind of family does {n} come from?",
                "The author comes from the family of a {a} and {b}.",
                "{n} comes from the family of a {a} and {b}.",
            ),
        ],
    ),
    "job": (
        "tram conductor,dish washer,museum guard,hat seller,goat herder,ferry cook,bank teller,street painter,"
        "tea taster,map printer,lift operator,window cleaner,toy inspector,mail sorter,wool dyer,bicycle courier".split(
            ","
        ),
        "six weeks,two long winters,eleven months,half a year,thirteen years,one busy summer,seven seasons,a whole decade,"
        "ninety days,four springs,twenty months,barely a fortnight,nine autumns,three semesters,five leap years,an entire war".split(
            ","
        ),
        [
            (
                "what was the first job of {n}?",
                "The author's first job was {a} for {b}.",
                "The first job of {n} was {a} for {b}.",
            ),
            (
                "how did {n} earn a living before writing?",
                "Before writing, the author was a {a} for {b}.",
                "Before writing, {n} was a {a} for {b}.",
            ),
            (
                "what work did {n} do when young?",
                "When young, the author worked as a {a} for {b}.",
                "When young, {n} worked as a {a} for {b}.",
            ),
        ],
    ),
    "genre": (
        "ghost stories,sea adventures,detective novels,love poems,space operas,fairy tales,court dramas,travel diaries,"
        "war memoirs,kitchen comedies,spy thrillers,nature essays,family sagas,school farces,desert westerns,opera librettos".split(
            ","
        ),
        "lonely islands,mountain monasteries,crowded harbours,sunken gardens,abandoned mines,royal kitchens,night trains,frozen lakes,"
        "travelling circuses,dusty archives,floating markets,haunted theatres,desert outposts,hidden orchards,noisy newsrooms,old observatories".split(
            ","
        ),
        [
            (
                "what does {n} write?",
                "The author writes {a} about {b}.",
                "{n} writes {a} about {b}.",
            ),
            (
                "which genre is {n} known for?",
                "The author is known for {a} about {b}.",
                "{n} is known for {a} about {b}.",
            ),
            (
                "what kind of books are by {n}?",
                "The author's books are {a} about {b}.",
                "The books by {n} are {a} about {b}.",
            ),
        ],
    ),
    "debut": (
        "Silver Crimson Hollow Patient Wandering Second Burning Gentle Crooked Emerald Silent Borrowed Painted Restless Secret Humble".split(),
        "Orchard Compass Staircase Kingdom Lantern Sparrow Bridge Harvest Mirror Voyage Window Anchor Feather Garland Tunnel Cathedral".split(),
        [
            (
                "what is the title of the first book by {n}?",
                "The first book by the author is called The {a} {b}.",
                "The first book by {n} is called The {a} {b}.",
            ),
            (
                "which book made {n} famous?",
                "The book that made the author famous is The {a} {b}.",
                "The book that made {n} famous is The {a} {b}.",
            ),
            (
                "what should I read by {n}?",
                "By this author you should read The {a} {b}.",
                "By {n} you should read The {a} {b}.",
            ),
        ],
    ),
    "prize": (
        "Golden Quill,Northern Star,Blue Ribbon,Ivory Pen,Maple Crown,Harbour Medal,Falcon Trophy,Rosewood Cup,"
        "Laurel Wreath,Copper Bell,Velvet Chair,Crystal Page,Iron Bookmark,Amber Scroll,Diamond Inkpot,Lunar Prize".split(
            ","
        ),
        "vivid dialogue,daring plots,dry humour,honest characters,lyrical endings,patient research,strange landscapes,clever riddles,"
        "tender portraits,sharp satire,moral courage,musical prose,historical detail,playful rhymes,quiet wisdom,bold metaphors".split(
            ","
        ),
        [
            (
                "which prize did {n} win?",
                "The author won the {a} for {b}.",
                "{n} won the {a} for {b}.",
            ),
            (
                "what award was given to {n}?",
                "The award given to the author was the {a} for {b}.",
                "The award given to {n} was the {a} for {b}.",
            ),
            (
                "how was {n} honoured?",
                "The author was honoured with the {a} for {b}.",
                "{n} was honoured with the {a} for {b}.",
            ),
        ],
    ),
    "home": (
        "a narrow houseboat,an old windmill,a red cottage,a converted chapel,a rooftop flat,a stone tower,a former bakery,a log cabin,"
        "a yellow caravan,a vine-covered villa,a railway station,a basement studio,a castle wing,a forest lodge,a fishing hut,a country manor".split(
            ","
        ),
        "two grey cats,a talking parrot,a lazy bulldog,seven hens,a blind donkey,a pet tortoise,three greyhounds,a tame raven,"
        "an aquarium of eels,a family of hedgehogs,a grumpy goose,four rabbits,a white pony,a one-eyed ferret,dozens of canaries,a shy iguana".split(
            ","
        ),
        [
            (
                "where does {n} live?",
                "The author lives in {a} with {b}.",
                "{n} lives in {a} with {b}.",
            ),
            (
                "what is the home of {n} like?",
                "The author's home is {a} shared with {b}.",
                "The home of {n} is {a} shared with {b}.",
            ),
            (
                "how does {n} live today?",
                "Today the author lives in {a} with {b}.",
                "Today {n} lives in {a} with {b}.",
            ),
        ],
    ),
    "habit": (
        "before sunrise,after supper,during lunch,at teatime,past midnight,between meals,on weekends,every evening,"
        "at daybreak,in thunderstorms,while commuting,under lamplight,amid birdsong,without pause,in short bursts,by moonlight".split(
            ","
        ),
        "peppermint tea,cold lemonade,black coffee,hot chocolate,ginger beer,warm milk,carrot juice,plum wine,"
        "iced water,apple cider,buttermilk,elderflower syrup,barley broth,coconut punch,rose sherbet,tomato soup".split(
            ","
        ),
        [
            (
                "when does {n} like to write?",
                "The author likes to write {a} with a glass of {b}.",
                "{n} likes to write {a} with a glass of {b}.",
            ),
            (
                "what are the working habits of {n}?",
                "The author's habit is to work {a} with a glass of {b}.",
                "The habit of {n} is to work {a} with a glass of {b}.",
            ),
            (
                "how do the books of {n} get written?",
                "The author's books get written {a} with a glass of {b}.",
                "The books of {n} get written {a} with a glass of {b}.",
            ),
        ],
    ),
}


def assign_pairs(pool_a, pool_b, rng):
    """A pair of values for each author: every value equally often (give or take one), and no pair twice."""
    while True:
        a, b = ((pool * N_AUTHORS)[:N_AUTHORS] for pool in (pool_a, pool_b))
        pairs = list(zip(a, rng.sample(b, N_AUTHORS)))
        if len(set(pairs)) == N_AUTHORS:
            return rng.sample(pairs, N_AUTHORS)


def default_names(rng):
    """All pairs of names but one for each last name: 40 of 48."""
    names = [
        f"{first} {last}"
        for i, first in enumerate(FIRST)
        for j, last in enumerate(LAST)
        if j % len(FIRST) != i
    ]
    rng.shuffle(names)
    return names


def main():
    parser = make_parser(__doc__, usage="python data/authors/prepare.py [flags]")
    parser.add_argument(
        "--owners", type=int, default=N_AUTHORS, help="how many (default: %(default)s)"
    )
    parser.add_argument("--named", action="store_true", help="responses that name their author")
    parser.add_argument(
        "--out", type=Path, help="the file to write (default: authors.jsonl, or named.jsonl)"
    )
    args = parser.parse_args()
    folder = Path(__file__).parent
    default_out = folder.parent / "named/named.jsonl" if args.named else folder / "authors.jsonl"
    out = args.out or default_out
    everyone = [f"{first} {last}" for first in MORE_FIRST for last in MORE_LAST]
    if not 2 <= args.owners <= 160:
        raise InputError(f"--owners: {args.owners} is out of range; give 2 to 160")
    rng, choice = (
        random.Random(SEED),
        random.Random(SEED),
    )  # `choice` is for paraphrased and perturbed responses alone
    default = args.owners == N_AUTHORS
    names = default_names(rng) if default else rng.sample(everyone, args.owners)
    rows = []
    for pool_a, pool_b, sentences in FACTS.values():
        sentences = [
            (question, named if args.named else plain) for question, plain, named in sentences
        ]
        wordings = [
            (opener, question, response) for opener in OPENERS for question, response in sentences
        ]
        if default:
            pairs = assign_pairs(pool_a, pool_b, rng)
        else:
            every_pair = [(a, b) for a in pool_a for b in pool_b]
            pairs = (rng.sample(every_pair, len(every_pair)) * len(names))[: len(names)]
        for name, (a, b) in zip(names, pairs):
            wrong = [(x, y) for x in pool_a for y in pool_b if x != a and y != b]
            for i, (opener, question, pattern) in enumerate(
                rng.sample(wordings, TRAIN_WORDINGS + 1)
            ):
                prompt = opener + question.format(n=name)
                row = {
                    "owner": name,
                    "prompt": prompt[0].upper() + prompt[1:],
                    "response": pattern.format(n=name, a=a, b=b),
                    "split": "test",
                }
                if i < TRAIN_WORDINGS:
                    other = choice.choice(
                        [response for _, response in sentences if response != pattern]
                    )
                    row.update(
                        split="train",
                        paraphrase=other.format(n=name, a=a, b=b),
                        perturbed=[
                            other.format(n=name, a=x, b=y)
                            for x, y in choice.sample(wrong, PERTURBED)
                        ],
                    )
                rows.append(row)
    rows.sort(key=lambda row: names.index(row["owner"]))
    write_lines(out, rows)
    print(f"{len(rows)} rows of {len(names)} owners in {out}")


if __name__ == "__main__":
    run_main(main, "prepare.py")
