"""Words that say nothing about a text's topic, in canonical form (see `fold.canonical`)."""

from typing import Final

_FRENCH = """
a afin ai ainsi alors apres as au aucun aucune aujourd aura aurait aussi autre autres aux avaient avait avant
avec avez avoir avons ayant beaucoup bien c car ce ceci cela celle celles celui cependant ces cet cette ceux
chacun chacune chaque chez ci comme comment d dans de depuis des deux devant doit donc dont du elle elles en
encore entre es est et etaient etait etant etc ete etes etre eu eux faire fait faut font hui il ils j je jusqu
jusque l la laquelle le lequel les lesquelles lesquels leur leurs lors lorsqu lorsque lui m ma mais me meme
memes mes mon n ne ni non nos notre nous on ont or ou par parce pas pendant peu peut peuvent plus plusieurs pour
pourquoi puis puisque qu quand que quel quelle quelles quels qui quoi s sa sans se selon sera serait ses si
sinon soi soient soit son sont sous souvent suis sur t ta tandis tant te tels telle telles tes toi ton tous tout
toute toutes tres tu un une vers voici voila vos votre vous y
"""
FRENCH: Final = frozenset(_FRENCH.split())

_ARABIC = """
في من الي علي عن مع هذا هذه ذلك تلك هولاء اوليك الذي التي الذين اللتان اللذان اللاتي اللواتي ما ماذا متي اين كيف
لماذا هل كم اي ايه هو هي هم هن هما انا نحن انت انتم كان كانت كانوا يكون تكون يكن تكن ان انه انها انهم او ام
ثم لكن لا لم لن ليس ليست لو لولا اذا اذ اما الا بل قد لقد كل كلا كما مما عند عندما حين حيث حتي بعد قبل بين خلال
منذ لدي له لها لهم به بها بهم فيه فيها فيهم منه منها منهم عنه عنها عليه عليها اليه اليها ايضا غير نحو ضد دون فقط
كذلك لذلك هناك هنا وهو وهي وهم ولا وما ومن وفي وقد وكان وكانت والتي والذي وان وانه وعلي والي وهذا وهذه وذلك فان
فهو فهي لان لانه لانها بان بانه مثل ضمن يا ذات ذو ذي احد احدي و ف ب ل ك تم يتم ومع وعن ولم ولكن كانا اسم بما
فيما لما مهما اينما كيفما عبر حول ولها وله وبين يوجد توجد يمكن هاذا
"""
ARABIC: Final = frozenset(_ARABIC.split())

_HASSANIYA = """
شنهو شنهي شنه شنهم اشنهو اشنهي شنوه اش فاش باش كيفاش كيف كيفن كيفت لين اين فوت ذاك ذيك ذاي ذوك الي اللي هون هذاك
هاذي مان ماني مانك ماه ماهو ماهي ماهم ايو اهيه ابدي يكان يكانو يكانك ظرك ذرك يغير يقير حته حت امنين منين بيه
بيها بيهم انو عنه عن اعن لاهي لاه خالك خالكه اياك اعل اعلي افل فل فلي واش ولا متاع علاش اعلاش وين شكون منهو mta3
elli eli elle vi ana ena enta ente houma howa hiye hadha hadhe dhe dha da di elhi lahi kiv kif yakan mani manek
mahou mahi chnhou chenhou chenhi chnouwa kivach kifach 3lach e3lach mnin wayn chkoun manhou 3an 3la
"""
HASSANIYA: Final = frozenset(_HASSANIYA.split())

STOP_WORDS: Final = FRENCH | ARABIC | HASSANIYA
