"""Write one_dimension.html beside this file: a VAE of one latent, in which everything is exact and can be moved.

    python docs/one_dimension.py

The page is one file, which needs no server and no network. Its figure is ppl_vae/reports/one_dimension.py; here are the
words around it.
"""

from pathlib import Path

from ppl_vae.core.files import write_bytes
from ppl_vae.reports import vega
from ppl_vae.reports.one_dimension import one_dimension

PAGE = Path(__file__).with_suffix(".html")

STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 70rem; margin: 1rem auto; padding: 0 1rem; }
p, dl, ol { max-width: 44rem; }
dt { font-weight: 600; }
dd { margin: 0 0 .5rem 1.5rem; }
li { margin-bottom: .75rem; }
summary { cursor: pointer; }
"""

BEFORE = """
<h1>A VAE that you can move</h1>
<p>A <em>variational autoencoder</em> (VAE) explains what we see, x, by something that we do not see, z. Here both are
one number, so that everything can be drawn and computed exactly. First nature draws z from the <em>prior</em>. Then
the <em>decoder</em> turns z into f(z), and noise of width σ is added: that is x. We see x and ask: which z was it?
The exact answer is the <em>posterior</em>. A VAE answers by a simpler curve, the <em>guide</em>, and trains it until
it is close. Move the sliders: you are the training.</p>
"""

AFTER = """
<h2>Five things to try</h2>
<p>Think first, then move, then read the answer. To go back to the start, load the page again.</p>
<ol>
<li>Halve the guide's width s, from 0.6 to 0.3. Which bar grows?
<details><summary>Answer</summary>The rate, from 0.236 to 0.794: a narrow guide says more about z than the prior does,
and the rate counts what it says. The distortion becomes smaller, from 3.392 to 1.877, since fewer z are tried that do
not fit x. Together that is a gain, so that the ELBO rises and the gap shrinks. The last bar, log p(x), does not move:
it belongs to the model, and the guide can't change it.</details></li>
<li>Make the gap as small as you can, by m and s. Can you reach 0?
<details><summary>Answer</summary>No. Near m = 0.85 and s = 0.4 the gap is 0.123, and it gets no smaller (the box
“move the guide to the best bell” finds them for you). The guide is a bell, and the posterior leans to one side,
because the decoder is bent: no bell has this shape. Now choose the decoder “line”, x = 1 and σ = 1: the posterior is
a bell, and at m = 0.5 and s = 0.7 the gap is 0.000. The gap is always KL(q(z|x) ‖ p(z|x)): it is 0 only if the guide
is the posterior.</details></li>
<li>Choose the decoder “wave”, x = 1 and σ = 0.3. How many answers does the posterior give? Put the guide on one, then
on another.
<details><summary>Answer</summary>Two that can be seen well, for different z give the same x (a third is small, since
the prior is small there). On the high peak, at m = 0.35 and s = 0.1, the ELBO is −1.952; on the low one, at m = 1.7
and s = 0.15, it is −3.356. From the low peak every small step makes it worse, so that a training that comes there
stays there. A wide guide over both, m = 1 and s = 0.6, is worse than either, with −4.465: it also tries all z between
the peaks, which do not fit x. So a guide of one peak chooses one, and forgets the others.</details></li>
<li>Go back to the decoder “bend”, x = 1.5 and σ = 0.6, with m = 0.85 and s = 0.4. Now make β = 4. Where does the
dotted curve go? Follow it with the guide.
<details><summary>Answer</summary>It goes towards the prior, because the rate now counts four times. Of all bells m =
0.7 and s = 0.6 is the best: the rate falls from 0.858 to 0.436, and the distortion grows from 0.718 to 1.625. So β
asks for codes that say less and fit worse. The price is the gap, from 0.123 to 0.608: with β above 1 the guide is no
longer an estimate of the posterior.</details></li>
<li>With β = 1, set m = 0, s = 1 and the encoder's slope a = 0. The guide is the prior now, for every x. Is that good?
<details><summary>Answer</summary>The rate is 0.000, and q(z) is exactly the prior, which looks well. But z says
nothing of x: the latent has <em>collapsed</em>. It costs a gap of 5.084. Now make σ = 2: the gap is only 0.146. Where
the noise is large, a code gains little, and training may end in such a place. For the contrary set σ = 0.6, m = 0.85,
s = 0.4 and a = 0.6: each guide is far from the prior, their rate here is 0.858, and yet all guides together, q(z),
are close to it, at 0.06. That is what we want: each x has a code of its own, and together the codes fill the
prior.</details></li>
</ol>
<h2>The words</h2>
<dl>
<dt>prior p(z)</dt><dd>What we believe of z before we see x: a bell of mean 0 and width 1.</dd>
<dt>likelihood p(x|z)</dt><dd>What x may be if z is known: a bell of mean f(z) and width σ.</dd>
<dt>posterior p(z|x)</dt><dd>What we believe of z after we have seen x: p(z) p(x|z), divided by p(x).</dd>
<dt>guide q(z|x), or encoder</dt><dd>A bell of mean m and width s, in place of the posterior. For another datum x′ the
encoder moves the mean to m + a (x′ − x).</dd>
<dt>log p(x)</dt><dd>How well the model foretells x, in nats; the integral of p(z) p(x|z) over all z, and its
logarithm.</dd>
<dt>distortion</dt><dd>−E log p(x|z) with z from the guide: how badly x is reconstructed.</dd>
<dt>rate</dt><dd>KL(q(z|x) ‖ p(z)): how far the guide is from the prior.</dd>
<dt>ELBO</dt><dd>−distortion − rate. It is never above log p(x), and training makes it large.</dd>
<dt>gap</dt><dd>log p(x) − ELBO, which is KL(q(z|x) ‖ p(z|x)): how far the guide is from the posterior.</dd>
</dl>
<p>Every number is an integral over z, computed on a grid of 2001 points from −20 to 20 while you move a slider.</p>
"""


def page() -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A VAE that you can move</title>
<style>{STYLE}</style>
{vega.library()}</head>
<body>
<main>{BEFORE}{one_dimension()}{AFTER}</main>
</body>
</html>
"""


if __name__ == "__main__":
    write_bytes(PAGE, page().encode())
    print(f"wrote {PAGE}")
