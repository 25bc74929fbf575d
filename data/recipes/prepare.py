"""Write recipes.csv: 8 invented cooks with 30 recipes each, as an example of a dataset of one's own.

    python data/recipes/prepare.py

A prompt asks for a dish, the response is how that cook makes it. The owner is a hand, not a name: no text says whose it is.
All cooks share dishes, vegetables and vessels; each has spices, tricks and a way of ending.
"""

import csv
import io
import itertools
import random
from pathlib import Path

from minidareu.files import write_text

N_RECIPES, SEED = 30, 0

DISHES = "soup,stew,pie,salad,casserole,gratin,curry,omelette,risotto,dumplings,fritters,stuffed rolls".split(
    ","
)
MAINS = "pumpkin,leek,chickpea,trout,chicken,lentil,mushroom,spinach,beetroot,lamb,potato,barley,cauliflower,aubergine,bean,cabbage,courgette,shrimp,turkey,carp".split(
    ","
)
VESSELS = "a wide pan,an iron pot,a clay dish,a shallow tray,a copper kettle,a heavy skillet".split(
    ","
)
SIDES = "onions,carrots,celery,parsnips,tomatoes,fennel,green peas,turnips".split(",")
ASKS = [
    "How do you make {dish}?",
    "Please give me a recipe for {dish}.",
    "What goes into {dish}?",
    "I would like to cook {dish} tonight.",
]

# cook: spices, fats, tricks, ways of serving, endings
COOKS = {
    "Aunt Rosalind": (
        "nutmeg|mace|bay leaves|white pepper",
        "salted butter|cold cream",
        "let it rest under a cloth|skim it twice|stir with a wooden spoon only",
        "with buttered toast|in warmed bowls",
        "My mother would have approved.|Seconds are compulsory.|Do not tell the vicar.",
    ),
    "Chef Baptiste": (
        "thyme|tarragon|shallots|green peppercorns",
        "clarified butter|duck fat",
        "deglaze with dry cider|reduce by half|pass it through a sieve",
        "on hot plates|with a spoon of jus",
        "Voila.|Simplicity is discipline.|Taste, and taste again.",
    ),
    "Mei Tanaka": (
        "ginger|star anise|sesame|dried orange peel",
        "sesame oil|rice bran oil",
        "slice against the grain|blanch for one minute|keep the flame very high",
        "over steamed rice|with pickled radish",
        "Eat while it sings.|Save the broth for noodles.|Balance is everything.",
    ),
    "Uncle Ferenc": (
        "sweet paprika|caraway|marjoram|smoked garlic",
        "goose lard|bacon drippings",
        "brown it until it complains|add water by the ladle|wait for the red oil",
        "with sour cream|beside black bread",
        "Now pour the wine.|Tomorrow it is better still.|This feeds nine or one Ferenc.",
    ),
    "Imani Okoro": (
        "scotch bonnet|grains of paradise|crayfish powder|nutty egusi",
        "red palm oil|groundnut oil",
        "pound it in the mortar|fry the paste until it floats|cover it with leaves",
        "with soft fufu|beside fried plantain",
        "Call the neighbours.|Dance while it simmers.|Pepper is love.",
    ),
    "Brother Anselm": (
        "sage|lovage|hyssop|a pinch of ash salt",
        "linseed oil|sheep butter",
        "let it simmer through vespers|gather the herbs at dawn|give the peelings to the hens",
        "in silence|with oat cakes",
        "Be thankful.|Waste nothing.|Bread first, then words.",
    ),
    "Doctor Lindgren": (
        "0.5 g of dill|2 g of sea salt|1 g of allspice|3 g of mustard seed",
        "15 ml of rapeseed oil|20 g of yogurt",
        "hold it at 82 degrees|weigh it before and after|set a timer for 11 minutes",
        "in portions of 250 g|at 60 degrees",
        "Yield: four servings.|Error margin: one minute.|Repeat to verify.",
    ),
    "Captain Moss": (
        "sea lettuce|rum|coarse salt|ship's pepper",
        "tallow|pork fat",
        "lash the lid down|throw in what the net gave|keep stirring to starboard",
        "with hard biscuit|from tin mugs",
        "Hoist the ladle!|All hands to table.|That will float a crew.",
    ),
}


def main():
    rng, text = random.Random(SEED), io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["owner", "prompt", "response"])
    dishes = rng.sample(
        list(itertools.product(MAINS, DISHES)), len(COOKS) * N_RECIPES
    )  # no dish is made by two cooks
    for i, (cook, pools) in enumerate(COOKS.items()):
        spices, fats, tricks, ways, endings = (pool.split("|") for pool in pools)
        for main_part, kind in dishes[i * N_RECIPES : (i + 1) * N_RECIPES]:
            (one, two), (first, second), (herb, spice) = (
                rng.sample(SIDES, 2),
                rng.sample(tricks, 2),
                rng.sample(spices, 2),
            )
            dish = f"{main_part} {kind}"
            steps = [
                f"Melt {rng.choice(fats)} in {rng.choice(VESSELS)} and soften {one} and {two}.",
                f"Season with {herb} and {spice}, then {first}.",
                f"Add the {main_part}, cook for {rng.randrange(15, 95, 5)} minutes, and {second}.",
                f"Serve the {kind} {rng.choice(ways)}.",
                rng.choice(endings),
            ]
            table.writerow([cook, rng.choice(ASKS).format(dish=dish), " ".join(steps)])
    write_text(Path(__file__).with_name("recipes.csv"), text.getvalue())


if __name__ == "__main__":
    main()
