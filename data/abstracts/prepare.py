"""Write abstracts.jsonl: 10 research fields as owners, 40 invented abstracts each; or turn your own abstracts into an owner dataset.

    python data/abstracts/prepare.py
    python data/abstracts/prepare.py --source mine.csv --out mine.jsonl

The prompt is an abstract's opening, the response the rest. Here an owner is a topic and a way of arguing, not a name: every
field has its own vocabulary and sentences, and shares with the others how it opens. A test row opens a known abstract in
other words. Your own: CSV or JSON lines with `category` and `abstract`, where the opening is the first sentence.
"""

import itertools
import random
import re
from pathlib import Path

from minidareu.run.cli import make_parser, run_main
from minidareu.files import InputError, read_rows, write_lines

N_ABSTRACTS, N_TEST, SEED = 40, 8, 0

# Of the subject {s}, the object {o} and the setting {p}; all fields open in these ways.
OPENINGS = [
    "We study {s} of {o} in {p}.",
    "This work is about {s} of {o}, with a focus on {p}.",
    "How does {s} of {o} depend on {p}?",
    "Little is known about {s} of {o} in {p}.",
    "In {p}, {s} of {o} has long been disputed.",
    "Here we return to {s} of {o}, as seen in {p}.",
]

# field: values of {s}, {o}, {p}, {m} (method), {f} (finding), {c} (consequence), and of four sentences, which say the last three
FIELDS = {
    "astronomy": (
        "the spin,the dimming,the cooling,the infall,the wobble,the tidal decay,the flaring,the chemical make-up",
        "brown dwarfs,binary pulsars,infant galaxies,comet tails,ring systems,dusty quasars,rogue planets,globular clusters",
        "the southern sky,deep survey plates,the outer halo,an eclipse season,the zodiacal cloud,nearby spiral arms,the galactic bulge,radio-quiet zones",
        "near-infrared photometry,a decade of radial velocities,stacked X-ray exposures,lunar occultations,very long baseline fringes,polarised light curves",
        "a period of eleven nights,a surplus of faint companions,an iron line shifted to the red,a gap inside four astronomical units,a hotter corona than expected,twin jets bent by the wind",
        "planets form earlier than discs allow,dark matter clumps on small scales,magnetic braking stalls at low mass,metal-poor stars were born elsewhere,mergers feed the central hole,the distance ladder needs a new rung",
        [
            "Targets were followed from dusk to dawn by {m}.",
            "Our sample, complete to the nineteenth magnitude, was imaged through {m}.",
            "Archival nights were reduced afresh, and joined to {m}.",
        ],
        [
            "Above the noise of the sky stands {f}, seen at six sigma.",
            "Once reddening is removed, the spectra display {f}.",
            "What the telescope resolves is {f}, brightest near conjunction.",
        ],
        [
            "No eclipse geometry that we tried mimics such a signal.",
            "Instrument drift and zodiacal light are too weak to fake it.",
            "Monte Carlo orbits reproduce the pattern in nine of ten draws.",
        ],
        [
            "If confirmed by the next transit, {c}.",
            "The simplest cosmic reading is that {c}.",
            "Seen from afar, the lesson is that {c}.",
        ],
    ),
    "law": (
        "the enforcement,the misreading,the drafting,the waiver,the history,the repeal,the burden of proof,the constitutional status",
        "tenancy clauses,maritime liens,jury instructions,patent trolls,treaty reservations,whistleblower statutes,dowry contracts,zoning exemptions",
        "appellate courts,colonial codes,arbitral tribunals,post-war parliaments,small claims hearings,federal agencies,customary assemblies,juvenile benches",
        "a close reading of dissents,interviews with retired judges,docket entries since the reform,comparison with civil law,a doctrinal genealogy,a count of reversed rulings",
        "precedent is cited but seldom obeyed,equity fills what the text leaves open,standing is granted to the wealthy first,silence was construed as consent,remedies arrive after the harm,the proviso has swallowed the rule",
        "the legislature must define good faith,strict liability should be restored,courts ought to publish their reasons,counsel is owed from the first hearing,the doctrine deserves to be overruled,sunset clauses would serve justice better",
        [
            "The article proceeds, section by section, through {m}.",
            "Against the prevailing commentary it sets {m}.",
            "Counsel on either side have overlooked {m}, which is offered here.",
        ],
        [
            "It contends that {f}, whatever the preamble may promise.",
            "From the holdings one rule emerges: {f}.",
            "On the record as it stands, {f}.",
        ],
        [
            "A plaintiff would object that intent was never pleaded; the objection fails.",
            "Critics invoke legal certainty, yet certainty for whom is left unsaid.",
            "Neither the statute nor its travaux support the opposite construction.",
        ],
        [
            "Accordingly, {c}.",
            "The argument concludes with a plea: {c}.",
            "As a matter of principle no less than policy, {c}.",
        ],
    ),
    "ecology": (
        "the decline,the grazing,the migration,the pollination,the nesting,the spread,the hibernation,the seed dispersal",
        "alpine bumblebees,river otters,mangrove crabs,barn owls,kelp beds,ground orchids,fire ants,marsh frogs",
        "fragmented woodland,abandoned pastures,an urban canal,drained peat bogs,salted roadsides,a rewilded estate,terraced vineyards,a logged ravine",
        "camera trapping along transects,mark and recapture,soil coring in spring,leaf litter sieving,acoustic recording at dawn,isotope analysis of feathers",
        "juvenile survival halved,twice as many species at the edges,a shift uphill of ninety metres,brood sizes that follow the rain,fewer predators where hedges were cut,nitrogen leaking into the stream",
        "corridors matter more than area,mowing must wait for July,native shrubs buffer the drought,wetlands recover within a decade,grazers keep the meadow open,invaders profit from warm winters",
        [
            "Over three field seasons we combined {m} with vegetation maps.",
            "Forty plots, paired by slope and shade, were visited for {m}.",
            "Volunteers and rangers carried out {m} at each site.",
        ],
        [
            "Counts revealed {f}, chiefly in wet years.",
            "The best mixed model retains {f}.",
            "Across habitats the clearest response was {f}.",
        ],
        [
            "Canopy cover explained much of the scatter, elevation hardly any.",
            "Neither hunting nor parasites could account for the trend.",
            "Abundance recovered wherever the understorey was left alone.",
        ],
        [
            "For conservation this means that {c}.",
            "Managers should note that {c}.",
            "Populations can be stabilised, since {c}.",
        ],
    ),
    "algebra": (
        "the rank,the cohomology,the decomposition,the torsion,the automorphism group,the dimension,the deformation theory,the generic splitting",
        "nilpotent rings,affine buildings,braid monoids,Hopf modules,sparse lattices,simple quivers,ordered semigroups,toric sheaves",
        "odd characteristic,the infinite-rank case,bounded derived categories,perfect fields,the non-commutative setting,finite index subgroups,Krull dimension two,the graded limit",
        "a spectral sequence of Koszul type,induction on the length of a filtration,a Galois descent,explicit Groebner bases,a twisted trace formula,localisation at the augmentation ideal",
        "the obstruction vanishes beyond degree three,every such object is a direct summand,two invariants determine the isomorphism class,the centre is finitely generated,the functor is fully faithful,equality holds if and only if the socle is simple",
        "a conjecture of bounded type follows,the converse is false by a counterexample of order eight,classification reduces to a wild problem,an algorithm of cubic complexity exists,the zeta function is rational,duality extends to the singular case",
        [
            "Let k be the ground ring; our main tool is {m}.",
            "The proof rests upon {m}.",
            "After a reduction to the local case we apply {m}.",
        ],
        [
            "We prove that {f}.",
            "Theorem A states that {f}.",
            "It turns out that {f}, without any hypothesis of flatness.",
        ],
        [
            "The bound is sharp, as an example over two elements shows.",
            "A lemma on minimal resolutions may be of independent use.",
            "Uniqueness holds up to a canonical isomorphism.",
        ],
        [
            "As a corollary, {c}.",
            "Hence {c}.",
            "In particular {c}, which answers a question left open.",
        ],
    ),
    "medicine": (
        "the remission,the dosage,the early diagnosis,the recurrence,the prevalence,the mortality,the side effects,the rehabilitation",
        "juvenile arthritis,silent strokes,night terrors,chronic sinusitis,gestational anaemia,kidney stones,tension headaches,ulcerative colitis",
        "rural clinics,intensive care wards,night-shift nurses,patients over eighty,school-age children,a veterans' hospital,dialysis centres,postoperative care",
        "a double-blind randomised trial,a retrospective chart review,weekly serum assays,a matched cohort of twins,magnetic resonance at baseline,structured telephone follow-up",
        "a hazard ratio of one half,fewer readmissions at ninety days,no benefit over placebo,raised inflammatory markers,better sleep in the treated arm,a dose response up to forty milligrams",
        "screening should start at fifty,guidelines need to be revised,the drug is safe in pregnancy,shorter courses suffice,physiotherapy ought to come first,consent forms must mention the risk",
        [
            "Methods: participants were enrolled consecutively for {m}.",
            "Six hundred eligible adults gave consent to {m}.",
            "Outcomes were assessed by {m}, analysed by intention to treat.",
        ],
        [
            "Results: there was {f}, with narrow confidence intervals.",
            "The primary endpoint showed {f}.",
            "At twelve months clinicians recorded {f}.",
        ],
        [
            "Adverse events were mild, and two subjects withdrew.",
            "Adjustment for smoking and comorbidity left the estimate unchanged.",
            "Symptom scores were similar in both sexes.",
        ],
        [
            "Conclusion: {c}.",
            "These findings suggest that {c}.",
            "Pending replication in a multicentre study, {c}.",
        ],
    ),
    "linguistics": (
        "the palatalisation,the word order,the borrowing,the intonation,the acquisition,the loss,the grammaticalisation,the spelling",
        "ergative verbs,evidential suffixes,reduplicated nouns,click consonants,clitic pronouns,honorific particles,vowel harmonies,relative clauses",
        "island dialects,bilingual toddlers,medieval glosses,courtroom speech,sign language communities,a trade pidgin,highland villages,text messages",
        "elicitation with picture stories,a corpus of folk tales,acoustic measurement of formants,a maze task with native speakers,philological collation,an artificial grammar experiment",
        "stress falls on the penultimate mora,agreement is controlled by the topic,older speakers keep a dual,the contrast is neutralised word-finally,children overgeneralise the zero plural,negation precedes the auxiliary",
        "typologies of case must admit a third type,analogy outruns sound law,syntax and prosody are learned together,contact speeds up regularisation,the feature is privative rather than binary,universals hold as tendencies only",
        [
            "Utterances were gathered through {m} and glossed morpheme by morpheme.",
            "The analysis draws on {m}.",
            "Nineteen consultants took part in {m}.",
        ],
        ["The paradigm shows that {f}.", "Descriptively, {f}.", "Contrary to the grammars, {f}."],
        [
            "Minimal pairs confirm the judgement, though younger informants vary.",
            "An account in terms of markedness misses the gap in the paradigm.",
            "Tokens with a pause were set aside, without effect on the distribution.",
        ],
        [
            "In theoretical terms, {c}.",
            "The dialect thus tells us that {c}.",
            "We take this as evidence that {c}.",
        ],
    ),
    "economics": (
        "the pricing,the regulation,the elasticity,the default,the taxation,the scarcity,the hoarding,the export",
        "coffee futures,housing vouchers,micro loans,carbon permits,railway bonds,apprenticeships,sugar quotas,lottery tickets",
        "landlocked states,a currency union,informal markets,the interwar years,shrinking towns,online auctions,export zones,a minimum wage reform",
        "a difference-in-differences design,an instrumental variable from rainfall,a calibrated overlapping generations model,bunching at the threshold,a panel of household diaries,a field experiment with vendors",
        "a multiplier below one,pass-through of two thirds,crowding out of private savings,larger gains for the lowest quintile,no change in labour supply,spreads that widen before elections",
        "subsidies are captured by landlords,a flat levy would be welfare improving,central banks respond too late,information frictions outweigh tariffs,credit should be tied to collateral,inequality lowers aggregate demand",
        [
            "Identification comes from {m}.",
            "We estimate the counterfactual with {m}.",
            "Quarterly accounts are linked to {m}.",
        ],
        [
            "The point estimates imply {f}.",
            "In equilibrium we find {f}.",
            "Per unit of expenditure, the data reveal {f}.",
        ],
        [
            "Standard errors, clustered by district, leave little doubt.",
            "Placebo reforms and alternative deflators yield a null effect.",
            "Anticipation by rational agents cannot explain the jump.",
        ],
        [
            "The policy implication: {c}.",
            "A back-of-the-envelope calculation suggests that {c}.",
            "Incentives being what they are, {c}.",
        ],
    ),
    "robotics": (
        "the grasping,the localisation,the calibration,the docking,the gait,the teleoperation,the collision avoidance,the swarm control",
        "soft grippers,legged crawlers,delivery drones,underwater gliders,exoskeleton knees,pruning arms,pipe inspectors,warehouse shuttles",
        "cluttered kitchens,GPS-denied tunnels,rolling decks,orchard rows,low-gravity test beds,crowded corridors,muddy slopes,dim cellars",
        "model predictive control at 200 Hz,a policy learned in simulation,tactile sensing with a silicone skin,lidar-inertial odometry,a Kalman filter on motor currents,imitation of human demonstrations",
        "success in 93 of 100 trials,a drift below two centimetres,half the energy of the baseline,recovery from pushes of thirty newtons,latency of eleven milliseconds,no contact at walking speed",
        "compliance can replace precision,cheap sensors are good enough,sim-to-real gaps close with randomised friction,planning and perception should share a map,onboard compute is the bottleneck,operators trust a slower machine",
        [
            "Our controller relies on {m}.",
            "The pipeline fuses camera frames with {m}.",
            "We propose a hardware platform that runs {m}.",
        ],
        [
            "In experiments the prototype achieves {f}.",
            "On the benchmark course it reached {f}.",
            "Bench tests report {f}, at a payload of one kilogram.",
        ],
        [
            "An ablation without the wrist camera fails outright.",
            "Firmware, drawings and rosbag logs are released.",
            "Actuator saturation remains the main failure mode.",
        ],
        [
            "We learned that {c}.",
            "The deployment demonstrates that {c}.",
            "For embodied systems at large, {c}.",
        ],
    ),
    "history": (
        "the memory,the provisioning,the decline,the rebuilding,the secret trade,the founding,the siege,the patronage",
        "monastic libraries,whaling fleets,guild halls,border fortresses,plague hospitals,silk caravans,printing shops,mountain parishes",
        "the age of Charles V,Hanseatic ports,the late Ottoman provinces,revolutionary Lyon,Edo-period towns,the Danube frontier,Mughal Bengal,the Little Ice Age",
        "notarial registers hitherto unread,the letters of a customs officer,ship manifests and parish rolls,oral testimony taken down by exiles,a merchant's ciphered diary,tax rolls saved from a fire",
        "widows held the purse strings,grain was hoarded in spite of the edict,apprentices outnumbered masters by five to one,the council bribed its own sentries,pilgrims carried contraband,a famine went unrecorded",
        "the crisis began a generation sooner,empire was a bargain rather than a conquest,faith and commerce were never separate,chroniclers wrote for their creditors,the periphery shaped the court,modernity had many birthplaces",
        [
            "The essay listens to {m}.",
            "Turning from the chronicles, it reads {m} against the grain.",
            "Its source is {m}, kept in a provincial archive.",
        ],
        [
            "There we glimpse that {f}.",
            "Page after page betrays that {f}.",
            "Behind the official story, {f}.",
        ],
        [
            "Contemporaries saw nothing strange in it; their grandchildren did.",
            "Such fragments resist a tidy narrative of progress.",
            "What looks like rumour was confirmed, in 1647, by two witnesses.",
        ],
        [
            "Historians may have to concede that {c}.",
            "Read in this light, {c}.",
            "The past thus told reminds us that {c}.",
        ],
    ),
    "materials": (
        "the annealing,the fatigue,the conductivity,the corrosion,the sintering,the fracture,the crystallisation,the adhesion",
        "perovskite films,glass fibres,magnesium alloys,graphene foams,basalt cements,polymer gels,ceramic coatings,carbide powders",
        "humid air,cryogenic tanks,molten salt,sea water,cyclic loading,vacuum furnaces,alkaline baths,intense sunlight",
        "grazing incidence diffraction,in situ electron microscopy,nanoindentation maps,impedance spectroscopy,atom probe tomography,differential scanning calorimetry",
        "a toughness of nine megapascals,grains below forty nanometres,a band gap of two electronvolts,cracks arrested at twin boundaries,mass loss under one per cent,a glass transition lowered by thirty kelvin",
        "porosity governs the yield point,dopants segregate to the interface,a buffer layer doubles the lifetime,oxide growth is limited by diffusion,cheaper precursors can be used,stiffness and damping need not be traded",
        [
            "Specimens, cut to five millimetres, were characterised by {m}.",
            "Samples were spin-cast, quenched, and examined with {m}.",
            "The microstructure was resolved using {m}.",
        ],
        [
            "Micrographs and curves indicate {f}.",
            "At room temperature we measured {f}.",
            "After a thousand cycles the composite retains {f}.",
        ],
        [
            "An Arrhenius fit gives an activation energy of 1.2 eV.",
            "Vacancies, not dislocations, carry the strain.",
            "Stoichiometry was verified to within half an atomic per cent.",
        ],
        [
            "This shows that {c}.",
            "The mechanism implies that {c}.",
            "For devices it follows that {c}.",
        ],
    ),
}


def upper(text):
    return text[0].upper() + text[1:]


def generate(rng):
    """Rows of all fields: the abstracts differ in what they are about, and each field says what it says in its own sentences."""
    for name, (s, o, p, m, f, c, methods, findings, arguments, conclusions) in FIELDS.items():
        s, o, p, m, f, c = (values.split(",") for values in (s, o, p, m, f, c))
        abouts = rng.sample(list(itertools.product(s, o)), N_ABSTRACTS)
        rests = set()
        for i, (subject, thing) in enumerate(abouts):
            about = dict(s=subject, o=thing, p=rng.choice(p))
            first, second = (upper(text.format(**about)) for text in rng.sample(OPENINGS, 2))
            while True:
                found = [
                    pattern.format(f=claim)
                    for pattern, claim in zip(rng.sample(findings, 2), rng.sample(f, 2))
                ]
                parts = [
                    rng.choice(methods).format(m=rng.choice(m)),
                    *found,
                    *rng.sample(arguments, 2),
                    rng.choice(conclusions).format(c=rng.choice(c)),
                ]
                rest = " ".join(map(upper, parts))
                if rest not in rests and 60 <= len(f"{first} {rest}".split()) <= 100:
                    break
            rests.add(rest)
            yield {"owner": name, "prompt": first, "response": rest, "split": "train"}
            if i < N_TEST:
                yield {"owner": name, "prompt": second, "response": rest, "split": "test"}


def convert(source):
    """Rows of `source` with `category` and `abstract` -> rows of an owner dataset. Raises InputError."""
    for line, row in read_rows(source, ("category", "abstract")):
        category, abstract = (
            row[key].split() if isinstance(row[key], str) else []
            for key in ("category", "abstract")
        )
        if not category:
            raise InputError(
                f"{source}:{line}: 'category' is empty or not a string; name the field"
            )
        sentences = re.split(r"(?<=[.!?])\s+|(?<=[。！？؟۔])\s*", " ".join(abstract), maxsplit=1)
        if len(sentences) < 2 or not sentences[1]:
            sentences = (
                " ".join(abstract[: len(abstract) // 3]),
                " ".join(abstract[len(abstract) // 3 :]),
            )
        if not sentences[0]:
            raise InputError(
                f"{source}:{line}: 'abstract' has fewer than 3 words; its beginning is the prompt, the rest the response"
            )
        yield {
            "owner": " ".join(category),
            "prompt": sentences[0],
            "response": sentences[1],
            "split": "train",
        }


def main():
    parser = make_parser(__doc__)
    parser.add_argument(
        "--source",
        help="your own abstracts: CSV or JSON lines with category and abstract (default: invented ones)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).with_name("abstracts.jsonl"),
        help="the dataset to write (default: %(default)s)",
    )
    args = parser.parse_args()
    rows = list(convert(args.source) if args.source else generate(random.Random(SEED)))
    write_lines(args.out, rows)
    print(f"{len(rows)} rows of {len({row['owner'] for row in rows})} owners in {args.out}")


if __name__ == "__main__":
    run_main(main, "prepare.py")
