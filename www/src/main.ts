/** The page's entry: registers the elements and, in a built page, the service worker. */
import './styles/page.css';
import { LorahubComposer } from './composer-element.ts';
import { AccuracyPlot } from './elements/accuracy.ts';
import { define } from './elements/light.ts';
import { LossChart } from './elements/loss-chart.ts';
import { Rows } from './elements/rows.ts';
import { Weights } from './elements/weights.ts';
import { WordField } from './elements/word-field.ts';
import { keepForOffline } from './offline.ts';

define('lh-word-field', WordField);
define('lh-loss-chart', LossChart);
define('lh-weights', Weights);
define('lh-accuracy', AccuracyPlot);
define('lh-rows', Rows);
// In a task of its own, for it starts at once: this one has read and run the page's whole script.
setTimeout(() => define('lorahub-composer', LorahubComposer));

const composer = document.querySelector('lorahub-composer');
if (import.meta.env.PROD && composer) keepForOffline(composer);
