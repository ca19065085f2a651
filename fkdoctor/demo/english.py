# ruff: noqa: E501
"""English prose: what a cover letter and a job posting are made of.

One template a line. A slot may ask for its article: `{position:a}` becomes "an accountant".
"""

from __future__ import annotations

from fkdoctor.demo.grammar import Prose, read_vocabulary, split_lines

SHARED = read_vocabulary("""
percent: 8 | 11 | 12 | 14 | 15 | 17 | 18 | 20 | 22 | 23 | 25 | 27 | 30 | 32 | 35 | 38 | 40 | 45
months: two months | three months | four months | six months | eight months | ten months | a year | eighteen months | two years
years: two | three | four | five | six | seven | eight | nine
count: 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 12 | 14
many: 18 | 20 | 24 | 27 | 30 | 36 | 40 | 48 | 60 | 75 | 80 | 96 | 120 | 150
members: three | four | five | six | seven | eight | nine
place: my current company | a regional start-up | a public-sector agency | my graduate placement | a family-owned firm | a mid-sized agency | a university research group | a fast-growing subsidiary | a non-profit organisation | my first employer
trait: patience | curiosity | a calm head | attention to detail | persistence | clear writing | a habit of asking why | steady follow-through | plain speaking | good judgement
virtue: the way you publish what went wrong as well as what went right | your habit of shipping small changes often | your investment in people early in their careers | the care you take with existing customers | your decision to keep support and product in one team | the craft visible in your documentation | your long-term view of sustainability | the trust you place in the people closest to the work
habit: keeping a decision log | writing a short summary every Friday | sitting with the people who use the result | testing the cheapest idea first | reviewing my own work the morning after | asking for early feedback | drawing the problem before solving it | measuring before and after
lesson: small, visible improvements earn the trust needed for large ones | most delays are misunderstandings in disguise | a problem stated well is half solved | the people doing the work usually know the answer | numbers start a conversation and rarely end it | a simple process that is followed beats a perfect one that is not | asking early is cheaper than fixing late | documentation is a form of kindness
interest: long-distance cycling | choral singing | community gardening | restoring old radios | teaching evening classes | amateur cartography | volunteering at a repair café | cooking for large groups
wage: 52 | 58 | 64 | 71 | 78 | 85 | 93 | 104 | 118
stem: Larkfen | Ostermoor | Quillbrook | Brindlewick | Tamarrow | Fennimoor | Greycombe | Hollowmere | Ivelstone | Juniperfold | Kestrelby | Loxmarsh | Marrowgate | Nettleham | Ollerswick | Pellamoor | Rushcombe | Sorrelby | Thistlemoor | Wexfallow
suffix: Systems | Analytics | Logistics | Health | Foods | Robotics | Energy | Mobility | Retail | Labs
location: London | Dublin | Berlin | Toronto | Singapore | Seoul | Austin | Melbourne | Lisbon | Chicago
employment: full-time | full-time | full-time | contract | internship
""")

OCCUPATIONS = (
    read_vocabulary("""
position: backend engineer | server developer | platform engineer
field: backend engineering | distributed systems | service reliability
major: computer science | software engineering | mathematics
tool: Spring | Kotlin | Redis | PostgreSQL | message queues | Docker | load testing
task: rebuilding the order service | integrating a payment provider | splitting a large codebase | redesigning nightly jobs | introducing an on-call rota | moving authentication to a shared service
problem: outages at every seasonal peak | slow responses nobody could explain | duplicate payments | code without tests or owners | nightly jobs that ran into the morning
down: median response time | recovery time | deployment time | hosting cost
up: throughput | test coverage | the success rate of releases
"""),
    read_vocabulary("""
position: data engineer | analytics engineer
field: data engineering | data platforms | analytics infrastructure
major: industrial engineering | computer science | statistics
tool: Spark | Airflow | Kafka | SQL | Python | a data catalogue | columnar storage
task: building an event pipeline | migrating daily aggregates | automating data-quality checks | modelling the sales warehouse | delivering near-real-time dashboards | standardising source extracts
problem: reports that arrived too late to matter | three definitions of the same metric | totals that never matched the source | log formats that changed overnight | spreadsheets copied by hand
down: processing time | storage cost | missing records | manual work
up: pipeline reliability | trust in the figures | query speed
"""),
    read_vocabulary("""
position: machine learning engineer | applied scientist | recommendation engineer
field: machine learning | recommender systems | natural language processing
major: statistics | applied mathematics | computational linguistics
tool: PyTorch | Python | vector search | experiment tracking | a feature store | careful annotation
task: improving product recommendations | training a document classifier | detecting unusual transactions | cleaning the training data | automating model releases | redesigning search ranking
problem: a gap between offline and live results | poor suggestions for new users | a badly unbalanced training set | experiments that could not be repeated | inference that was too slow to ship
down: inference latency | false alarms | training cost | time between releases
up: click-through on recommendations | classification accuracy | search satisfaction
"""),
    read_vocabulary("""
position: frontend engineer | web developer
field: frontend engineering | web performance | interface development
major: computer science | interaction design | media technology
tool: React | TypeScript | browser testing | a design system | accessibility audits | performance budgets
task: redesigning the checkout | tidying shared components | building an administration console | speeding up the mobile site | making forms accessible | adding three languages to the site
problem: a first page that took too long | screens that differed in every browser | the same component written five times | forms that lost their contents | menus that screen readers could not open
down: time to first paint | bounce rate | interface errors | page weight
up: completed checkouts | the accessibility score | returning visits
"""),
    read_vocabulary("""
position: product manager | product owner
field: product management | service design | product discovery
major: business administration | sociology | human factors
tool: user interviews | prototypes | controlled experiments | funnel analysis | story mapping | Figma
task: reshaping the sign-up flow | launching a subscription plan | classifying support requests | rewriting the notification policy | improving search | planning a partner portal
problem: people leaving half-way through sign-up | requests that contradicted each other | features nobody used | an endless queue of refund questions | a backlog without priorities
down: drop-off at sign-up | support volume | launch delays | refunds
up: subscription conversion | repeat purchases | customer satisfaction
"""),
    read_vocabulary("""
position: content marketer | growth marketer | brand manager
field: marketing | brand communication | content strategy
major: communication studies | business administration | English literature
tool: paid search | customer surveys | creative testing | newsletters | journey analysis | Excel
task: launching a new product line | running a monthly newsletter | promoting a local festival | revising the loyalty scheme | producing a video series | winning back lapsed customers
problem: campaigns nobody reacted to | advertising costs that only grew | customers who bought once and left | a budget cut in half | a brand that sounded different everywhere
down: acquisition cost | wasted spend | unsubscribes | production time
up: click-through | repeat purchases | newsletter opens
"""),
    read_vocabulary("""
position: people operations specialist | talent partner | learning coordinator
field: people operations | recruiting | learning and development
major: psychology | business administration | education
tool: structured interviews | job analysis | engagement surveys | course design | attendance data | exit interviews
task: renewing the induction programme | simplifying the hiring process | improving the review cycle | analysing why people left | running internal communication | rewriting job descriptions
problem: people leaving within their first year | interviewers with different standards | training nobody attended | candidates who waited weeks for an answer | distrust of the review process
down: time to hire | early departures | screening time | training cost
up: training satisfaction | candidate response rates | internal referrals
"""),
    read_vocabulary("""
position: accountant | financial analyst
field: accounting | financial planning | cost control
major: accounting | economics | finance
tool: Excel | the ledger system | cost analysis | cash-flow forecasts | control checklists | pivot reports
task: shortening the monthly close | revising product costing | preparing departmental budgets | collecting overdue invoices | supporting the annual audit | automating journal checks
problem: stock records that never balanced | a close that took two weeks | entries without receipts | a growing list of unpaid invoices | different cost rules in every department
down: days to close | posting errors | overdue balances | audit findings
up: budget accuracy | collection rates | complete documentation
"""),
    read_vocabulary("""
position: quality engineer | quality assurance specialist
field: quality management | process improvement | manufacturing quality
major: chemical engineering | mechanical engineering | materials science
tool: statistical process control | designed experiments | defect classification | measurement studies | root-cause meetings | Excel
task: renewing incoming inspection | classifying defects | auditing suppliers | analysing measurement error | improving final inspection | investigating complaints
problem: a paint defect that kept coming back | readings that differed between operators | cracks nobody could explain | suppliers with their own standards | faults found far too late
down: the defect rate | rework hours | inspection time | customer complaints
up: process capability | first-pass yield | equipment uptime
"""),
    read_vocabulary("""
position: account manager | export sales manager | technical sales engineer
field: sales | international sales | key account management
major: international trade | modern languages | marketing
tool: market research | visit reports | quotation analysis | trade fairs | product demonstrations | contract reviews
task: opening a new region | preparing international trade fairs | negotiating delivery dates | speeding up quotations | training distributors | checking export documents
problem: an account that had gone silent | sudden changes of delivery date | a cheaper competitor | quotations that took a week | talks slowed down by time zones
down: time to quote | cancelled contracts | returns | document errors
up: renewals | the share of won bids | quarterly revenue
"""),
    read_vocabulary("""
position: supply chain planner | logistics coordinator | purchasing specialist
field: supply chain planning | logistics | purchasing
major: logistics | industrial engineering | operations research
tool: demand forecasting | stock-turn analysis | route planning | the warehouse system | supplier scorecards | SQL
task: reorganising the warehouse | setting safety stocks | redrawing delivery areas | managing supplier lead times | simplifying returns | planning seasonal orders
problem: shortages in every peak season | goods nobody could find | frequent misdeliveries | rising storage charges | demand that was hard to predict
down: stock-outs | misdeliveries | storage cost | waiting time at the dock
up: stock turn | on-time delivery | loading efficiency
"""),
    read_vocabulary("""
position: registered nurse | clinical research nurse
field: nursing | patient safety | clinical research
major: nursing | public health | gerontology
tool: fall-risk scores | medication checks | handover sheets | patient leaflets | pain charts | hygiene audits
task: improving ward handovers | writing discharge leaflets | preventing falls | preventing medication errors | mentoring new nurses | scheduling trial visits
problem: details lost at every shift change | the same questions from worried relatives | falls during the night | leaflets that patients could not follow | late notice of examinations
down: falls | medication errors | handover time | readmissions
up: patient satisfaction | training completion | hand-hygiene compliance
"""),
)

# A section's beats in order; one sentence is drawn for each, so a paragraph never repeats itself.
OPENING = (
    split_lines("""
I am writing to apply for the {position} role at {company}.
Please consider this letter my application to join {company} as {position:a}.
When I saw that {company} is looking for {position:a}, I recognised the work I have been preparing for.
After {years} years in {field}, I would like to bring what I have learned to {company}.
The {position} opening at {company} caught my attention because it names {problem} so openly.
I have followed {company} for {months}, and the {position} vacancy is the moment I was waiting for.
My experience with {task} is the reason I am applying for the position of {position} at {company}.
For {years} years I have worked on {problem}; I would be glad to continue that work at {company}.
Your advertisement for {position:a} reads like a summary of my last {years} years.
A former colleague who now works with {company} suggested that I apply as {position:a}.
Anyone who has lived with {problem} knows why a company such as {company} looks for {position:a}.
Between {task} and {problem}, I have found the kind of work I want to keep doing, and {company} offers it.
"""),
    split_lines("""
I studied {major} and have spent the last {years} years in {field}, most recently at {place}.
My background is in {major}, but what shaped me was {months} of {task} at {place}.
At {place} I learned that {lesson}.
Colleagues describe me as someone who brings {trait} to every project.
What I offer is {trait}, solid experience with {tool}, and the conviction that {lesson}.
Having moved into {field} from {major}, I am used to learning quickly and in public.
I combine {years} years of {field} with a practical command of {tool}.
Employers tend to ask me about {tool}, and I never tire of answering.
My colleagues at {place} would probably mention {trait} first and {tool} second.
Trained in {major}, I came to {field} by way of {interest} and a good deal of luck.
Over {months} at {place}, I grew from a beginner in {tool} into the person others consult.
"""),
    split_lines("""
The following paragraphs show why I believe we would work well together.
I hope to show below that my experience fits what you describe.
Let me give you two examples.
In short, I like difficult beginnings and tidy endings.
I would like to tell you how that came about.
None of it was planned, and all of it turned out to be useful.
My curriculum vitae lists the dates; this letter is about the reasons.
What follows is the short version.
I will try to be as concrete as a single page allows.
It has been a winding path, and I would choose it again.
"""),
)

EXPERIENCE = (
    split_lines("""
At {place} I was responsible for {task}.
During {months} at {place}, my main task was {task}.
As part of a team of {members} at {place}, I took the lead in {task}.
The project I am proudest of is {task}, which I carried through over {months}.
My most demanding assignment so far has been {task} at {place}.
Shortly after I joined {place}, I was asked to take over {task}.
Two colleagues left within weeks of my arrival, and {task} became mine.
A typical week at {place} began with {task} and ended with explaining it to others.
My manager at {place} trusted me with {task} after only {months}.
I volunteered for {task} because nobody else would, and stayed with it for {months}.
Of everything I did at {place}, {task} had the clearest effect.
"""),
    split_lines("""
We were facing {problem}, and no one had found time to look into it.
The starting point was {problem}.
Everyone had become used to {problem}.
It soon became clear that {problem} stood in the way.
There were only {members} of us and {many} days to deal with {problem}.
Customers had complained about {problem} for {months}.
On my second day I ran into {problem}, and there was no manual for it.
Behind the figures we found {problem}.
The brief said nothing about {problem}, yet everything depended on it.
Every review ended with the same words: {problem}.
Our budget would not stretch to a cure for {problem}, so we looked for causes instead.
"""),
    split_lines("""
I collected {count} weeks of evidence, sorted the causes into {members} groups and tested them one at a time with {tool}.
I began with {tool}, fixed the most expensive cause first, and kept the rest of the team informed by {habit}.
Instead of proposing a large programme, I introduced {tool} in one corner and compared the results for {count} weeks.
By {habit}, I found the {members} steps where {tool} would make a difference.
I spoke to {count} people who lived with the consequences before I touched {tool} at all.
I learned to work with {tool}, built a small trial version, and revised it {count} times until the team agreed.
With the help of {tool} I cut the procedure to {members} steps that anybody could follow.
Some were sceptical, so I used {tool} to show the effect on a small sample first.
We paired {tool} with {habit} and kept whatever survived {count} weeks of daily use.
I drew a map of the whole process on one sheet, marked {members} weak points, and applied {tool} to the worst.
An afternoon with {tool} told us more than {months} of meetings had.
I negotiated {many} hours of quiet time, relearned {tool} from the basics, and came back with a plan.
"""),
    split_lines("""
Within {months}, {down} fell by {percent}%.
As a result, {up} rose by {percent}% and the approach became the standard in {members} other teams.
We reduced {down} by {percent}% and improved {up} by {percent}%.
The change brought {down} down by {percent}%, and it has stayed there since.
It improved {up} by {percent}%, which mattered less to me than the {many}-page guide we left behind.
By the end, {down} had dropped by {percent}% without additional staff.
We missed our target of {percent}%, but {up} kept improving afterwards.
A quarter later the figures spoke for themselves: {down} down by {percent}%, {up} up by {percent}%.
{percent}% may sound modest, yet nobody had moved {up} at all in {years} years.
The finance team put the effect on {down} at {percent}%; I would have guessed half of that.
Complaints stopped, {up} went up by {percent}%, and {members} neighbouring teams asked for the recipe.
"""),
    split_lines("""
It taught me that {lesson}.
Since then I have made a point of {habit}.
The experience convinced me that {lesson}.
I still think of it whenever I come across {problem}.
What I took away was {trait}, and the knowledge that {lesson}.
I would bring the same approach to {company}.
If I had to do it again, I would start with {habit} on day one.
Few things have shaped the way I work as much as those {months}.
Nobody remembers the slides, but {tool} is still in daily use.
It also cured me of the idea that {field} is a solitary business.
"""),
)

SKILLS = (
    split_lines("""
On the technical side, I am comfortable with {tool}, and I learn what is missing.
I use {tool} daily and have introduced it to {members} teams.
My degree in {major} gave me the theory; {tool} and {habit} gave me the practice.
You ask for experience with {tool}: I have used it for {years} years, most of all for {task}.
I have completed {count} days of training in {tool}, and I pass on what I learn by {habit}.
Of all the methods in {field}, {tool} is the one I would not do without.
Whoever hires me as {position:a} also gets somebody who documents {tool} properly.
Courses introduced me to {tool}; {problem} taught me to respect it.
Ask me about {tool} and you will hear about {task}, with figures.
Between us, my team of {members} covered everything, and {tool} fell to me.
"""),
    split_lines("""
Last year I used it for {task}, and {up} improved by {percent}%.
It helped me to trace {problem} to a single cause.
For {task} alone it saved about {many} hours a month.
I have also written a guide of {many} pages that new colleagues still read.
More important than the tool is the question behind it, and I have learned to ask it before {task}.
That combination was decisive when we had to deal with {problem}.
Because of it, {down} fell by {percent}% while {task} carried on as usual.
New starters now reach full speed {count} days sooner.
It turned {problem} from a mystery into a checklist.
The {many}-line summary I wrote afterwards hangs in the corridor.
"""),
    split_lines("""
I know where my limits are, and I ask before they become yours.
I am currently deepening it by {habit}.
Outside work, {interest} keeps me honest about how long things take.
I enjoy explaining such things to people from other fields.
What I still want to learn is {task} at a larger scale.
It is the kind of work in which {trait} matters more than brilliance.
Certificates exist, and I am glad to send them.
My evenings belong to {interest}, which has taught me patience with slow progress.
Nothing pleases me more than handing a tidy piece of work to the next person.
Should {company} use something else, give me {count} weeks.
"""),
)

TEAMWORK = (
    split_lines("""
I work best in teams that disagree openly.
In a group of {members} with very different backgrounds, I was asked to coordinate {task}.
Our team had to finish {task} while two offices were {count} time-zone hours apart in spirit, if not on the map.
Halfway through {task}, our lead was reassigned and I stepped in.
Not every lesson came from success: our first attempt at {task} failed.
When {problem} put {many} people under pressure, tempers rose quickly.
Some of my best days at {place} were other people's achievements.
For {months} I shared a desk, a deadline and {problem} with {members} strangers.
Remote work made {task} harder than it needed to be.
Our customers knew about {problem} before we admitted it to each other.
"""),
    split_lines("""
I replaced a weekly meeting with {many}-minute conversations and a list that everyone could see.
Rather than argue, we tried both ideas with {tool} and let the result decide.
I asked each person what would make next week easier and took over {members} of those tasks myself.
By {habit}, I made sure that bad news travelled faster than good news.
We wrote down {members} promises to each other and kept all but one.
I listened first, drew up {members} options, and left the choice to those who would live with it.
Instead of assigning blame, we spent {many} minutes listing what each of us had assumed.
I offered to take the dullest part, which made it easier to ask others for theirs.
Thanks to {tool}, disagreements became questions that an experiment could answer.
We agreed to stop all work for one day and talk to the people affected.
"""),
    split_lines("""
We finished {count} days early, and {up} rose by {percent}%.
The team stayed together for another {months}.
Afterwards {down} dropped by {percent}%, and people asked to work together again.
I learned that {lesson}.
It was the moment I understood that {lesson}.
The method is still in use, which pleases me more than the {percent}% we gained.
Nobody resigned, nothing burned, and {down} even fell by {percent}%.
Our sponsor called it the calmest delivery in {years} years.
Two of those colleagues are now the references named below.
What remained was a {many}-page handbook and a good deal of mutual respect.
"""),
)

MOTIVATION = (
    split_lines("""
What attracts me to {company} is {virtue}.
I chose {company} because of {virtue}.
More than anything else, it was {virtue} that made me think of {company}.
I have admired {virtue} since I first read about {company} while {task}.
{company} appeals to me for {virtue}.
In conversations with people who know {company}, one thing came up each time: {virtue}.
A talk by your team about {task} made me curious, and {virtue} made me apply.
Friends in {field} speak well of {company}, above all of {virtue}.
Of the {count} companies on my list, {company} is the only one I am writing to today, because of {virtue}.
My current employer could learn from {virtue}.
You could buy {tool} anywhere; {virtue} cannot be bought.
"""),
    split_lines("""
As {position:a}, I would want to help you with {problem} from the first month.
I understand the role of {position} as finding {problem} early and staying until it is gone.
It matches my belief that {lesson}.
My experience with {task} would be of direct use there.
I would like to contribute {trait} and {years} years of {tool}.
That is the environment in which I have done my best work on {task}.
Nothing in your description frightens me, {problem} included.
What you plan with regard to {up} is close to what I have done at {place}.
I read your requirements twice and found {members} that could have been written about me.
Where others see {problem}, I see a queue that can be sorted.
"""),
    split_lines("""
In the first {months} I would listen, learn your way of {task}, and propose {members} improvements.
Within {years} years I hope to be the person colleagues ask about {field}.
My aim for the first year is to bring {down} down by {percent}%.
In the longer run I would like to lead {task} at {company}.
I would begin by {habit}, as I have done in every new role.
Over time I would like to make {company} known for {up}.
Give me {months} and I will know your processes; give me {years} years and I will have improved them.
By next summer, {task} should be something your team looks forward to.
First I would shadow {count} colleagues, then I would pick one stubborn problem and finish it.
Eventually I would like to teach {tool} to whoever joins after me.
"""),
)

CLOSING = (
    split_lines("""
I would welcome the chance to discuss how I can support {company}.
Thank you for taking the time to read my application.
I would be happy to tell you more about {task} in an interview.
Thank you for considering my application for the {position} role.
I look forward to hearing how {company} approaches {problem}.
If you would like to see examples of {task}, I can bring {members} of them.
Let us talk about {problem}; I will bring coffee and {members} questions.
Please call me if anything in this letter raises questions.
It would be a pleasure to meet the {field} team in person.
Whatever you decide, I wish {company} every success with {task}.
"""),
    split_lines("""
I am available at {many} days' notice.
My notice period is {members} weeks, though I can be flexible.
References from {place} are available on request.
I am happy to travel to meet the team.
A portfolio with {many} pages of work samples is attached.
I can be reached by e-mail at any time.
Relocation would not be a problem.
My certificates and {members} work samples are enclosed.
Part-time arrangements would also suit me.
Early mornings are the best time to call.
"""),
)

VALEDICTIONS = (
    "Yours sincerely",
    "Kind regards",
    "With best regards",
    "Yours faithfully",
    "Sincerely",
)
GREETINGS = split_lines("""
Dear Hiring Manager,
Dear {company} team,
Dear Sir or Madam,
To whom it may concern,
Dear members of the {field} team,
Hello,
""")

TITLES = split_lines("""
Cover letter: {position} at {company}
{position} cover letter ({company}, {year})
{company} - application for the {position} role
Cover letter example for {position:a} with {years} years of experience
{year} {company} {position} application letter
How I applied to {company} as {position:a} (cover letter inside)
{position} cover letter sample, {field}
""")

RESIDUE = split_lines("""
Salary expectation:\tUSD {wage},000 a year
Views\t{many}\tSaved\t{count}
Attachments: C:\\letters\\{year}\\final.docx
Copyright remains with the author of this letter.
Word count\tnot checked
""")

REVISIONS = split_lines("""
I have rewritten this part to say more about {tool}.
Looking back, {trait} carried me further than any plan.
Every one of the {count} drafts taught me that {lesson}.
At {place} I learned to value {trait}.
What I remember best is that {up} improved by {percent}%.
""")

POSTING_TITLES = split_lines("""
{position} at {company}
{company} is hiring: {position} ({location})
{position}, {field} ({location})
{company}: {position} wanted, {year}
""")
POSTING_INTRODUCTIONS = split_lines("""
{company} is looking for {position:a} to join a team of {members} in {location}.
At {company}, {field} is not a back office. We need {position:a} who has dealt with {problem} before.
We are {company}. This year we are {task}, and we would like you to help as our next {position}.
Join the {field} group at {company} and help us put an end to {problem}.
""")
POSTING_DUTIES = split_lines("""
Take responsibility for {task}
Use {tool} when {task}
Reduce {problem} together with {members} colleagues
Improve {up} and report on it every quarter
Keep {down} under control
Support other departments in {task}
""")
POSTING_REQUIREMENTS = split_lines("""
At least {years} years in {field}, or comparable experience
A degree in {major} or equivalent knowledge
Working knowledge of {tool}
First-hand experience of {task}
A record of {trait} under pressure
The habit of {habit}
""")
POSTING_BENEFITS = split_lines("""
Flexible hours, based in {location}
{count} days of paid training a year
Probation of {members} months on full pay
A budget of {count} books a year
Health cover and {many} days of leave on top of public holidays
""")

PROSE = Prose(
    shared=SHARED,
    occupations=OCCUPATIONS,
    company="{stem} {suffix}",
    titles=TITLES,
    sections={
        "opening": OPENING,
        "experience": EXPERIENCE,
        "skills": SKILLS,
        "teamwork": TEAMWORK,
        "motivation": MOTIVATION,
        "closing": CLOSING,
    },
    greetings=GREETINGS,
    residue=RESIDUE,
    revisions=REVISIONS,
    posting_titles=POSTING_TITLES,
    posting_introductions=POSTING_INTRODUCTIONS,
    posting_lists={
        "What you will do": POSTING_DUTIES,
        "What you bring": POSTING_REQUIREMENTS,
        "What we offer": POSTING_BENEFITS,
    },
)
