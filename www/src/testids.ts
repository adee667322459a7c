/**
 * Every `data-testid` on the page: what a browser test may rely on.
 *
 * All of them lie in the open shadow root of `<lorahub-composer>`; Playwright's locators look inside by themselves
 * (`page.getByTestId('adapt')`), puppeteer needs `pierce/[data-testid="adapt"]`, plain DOM code
 * `document.querySelector('lorahub-composer').shadowRoot.querySelector(...)`.
 *
 * The element itself carries `data-state`: `loading`, `unavailable` (the engine could not start or died), `ready`,
 * `running`, `paused`, `cancelled`, `done`, `failed`; and `data-check`: `none`, `running`, `done`,
 * `failed` for the held-out rows.
 */
export const T = {
  /** Loading: the `<progress>`, and the line under it. */
  loadProgress: 'load-progress',
  loadText: 'load-text',

  /** Model and device, one line; the device's name alone (`data-kind`, `data-reason`, `data-choice`). */
  engine: 'engine',
  backend: 'backend',
  /** The choice of device, what is known of it, and another try after it gave out. */
  device: 'device',
  deviceDetail: 'device-detail',
  deviceRetry: 'device-retry',
  /** That the device changed by itself, and why. */
  deviceNote: 'device-note',

  /** Opens and closes the panel of models, and the panel; back to the bundled family. What became of another model. */
  models: 'models',
  modelsPanel: 'models-panel',
  modelsClose: 'models-close',
  demo: 'demo',
  modelNote: 'model-note',
  /** Radios of the panel's parts: `hub`, `files`, `stored`. */
  modelsTab: (name: string) => `models-tab-${name}`,
  /** A base's radio, by its id; a module's checkbox, by its name; a set's button, by its name. */
  base: (id: string) => `base-${id}`,
  module: (name: string) => `module-${name}`,
  moduleSet: (name: string) => `module-set-${name}`,
  moduleSearch: 'module-search',
  modulesChosen: 'modules-chosen',
  modulesOnly: 'modules-only',
  modulesClear: 'modules-clear',
  /** What is told before a download. */
  factDownload: 'fact-download',
  factHosts: 'fact-hosts',
  factMemory: 'fact-memory',
  /** How the base's weights are held, of a hub's base and of one from files. */
  weights: 'weights',
  filesWeights: 'files-weights',
  factFree: 'fact-free',
  factTime: 'fact-time',
  factLicence: 'fact-licence',
  fetch: 'fetch',
  fetchCancel: 'fetch-cancel',
  fetchNote: 'fetch-note',
  /** The download's bar, the file it is at, and its line of figures. */
  fetchProgress: 'fetch-progress',
  fetchFile: 'fetch-file',
  fetchText: 'fetch-text',
  /** Where files are dropped, the two pickers, what was recognised, by folder, and the button that opens it. */
  dropZone: 'drop-zone',
  pickFiles: 'pick-files',
  pickFolder: 'pick-folder',
  local: 'local',
  localRemove: (index: number) => `local-remove-${index}`,
  localObstacle: 'local-obstacle',
  openFiles: 'open-files',
  /** What is stored: a row by its name, its three buttons, its verdict (`data-verdict`), and deleting everything. */
  stored: (name: string) => `stored-${name}`,
  storedOpen: (name: string) => `stored-open-${name}`,
  storedVerify: (name: string) => `stored-verify-${name}`,
  storedDelete: (name: string) => `stored-delete-${name}`,
  storedTotal: 'stored-total',
  deleteAllAsk: 'delete-all-ask',
  converted: (name: string, storage: string) => `converted-${storage}-${name}`,
  deleteAll: 'delete-all',
  deleteAllYes: 'delete-all-yes',

  /** One error card; inside it the code, the message, the remedy, Dismiss, and Start again. */
  problem: 'problem',
  problemCode: 'problem-code',
  problemMessage: 'problem-message',
  problemRemedy: 'problem-remedy',
  problemDismiss: 'problem-dismiss',
  problemRestart: 'problem-restart',

  /** The radio of a task, by its id; `task-own` is the visitor's own. */
  task: (id: string) => `task-${id}`,
  taskSummary: 'task-summary',
  /** That a base is open without modules. */
  noModules: 'no-modules',

  /** Examples, counted from 0. */
  shotInput: (index: number) => `shot-input-${index}`,
  shotOutput: (index: number) => `shot-output-${index}`,
  shotRemove: (index: number) => `shot-remove-${index}`,
  shotAdd: 'shot-add',
  shotsRestore: 'shots-restore',
  /** The folded part for pasting: its summary, text, and the two buttons. */
  paste: 'paste',
  pasteText: 'paste-text',
  pasteShots: 'paste-shots',
  pasteTest: 'paste-test',

  budget: 'budget',
  seed: 'seed',
  advanced: 'advanced',
  rule: 'rule',
  objective: 'objective',
  estimate: 'estimate',

  adapt: 'adapt',
  pause: 'pause',
  resume: 'resume',
  cancel: 'cancel',
  /** Goes on with a search that was cancelled or broke off. */
  goOn: 'go-on',
  /** The polite live region. */
  status: 'status',

  /** One sentence: what the run came to. */
  headline: 'headline',
  /** Figures while it runs: text content is the figure alone. */
  evaluations: 'evaluations',
  best: 'best',
  rate: 'rate',
  timeLeft: 'time-left',
  phase: 'phase',
  chart: 'chart',
  /** Radios. */
  showChart: 'show-chart',
  showTable: 'show-table',
  chartTable: 'chart-table',
  /** A module's row, by its name; `data-weight` holds the unrounded weight. */
  weight: (name: string) => `weight-${name}`,

  /** A candidate's row of accuracies (`base`, `single`, `uniform`, `pass`, `composed`); `data-correct`, `data-n`. */
  accuracy: (candidate: string) => `accuracy-${candidate}`,
  /** Checks the held-out rows after a cancelled run; stops a check. */
  check: 'check',
  checkStop: 'check-stop',
  checkProgress: 'check-progress',
  /** Radios: `all`, `fixed`, `broken`, `wrong`. */
  filter: (name: string) => `filter-${name}`,
  /** One held-out row; `data-ok` is the composed answer's flag once it is known. */
  row: 'row',
  rowsMore: 'rows-more',

  tryInput: 'try-input',
  tryRun: 'try-run',
  tryExample: (index: number) => `try-example-${index}`,
  tryUnknown: 'try-unknown',
  /** The two answers' text; `data-status` is `waiting`, `streaming`, `done` or `stopped`. */
  tryBase: 'try-base',
  tryComposed: 'try-composed',
  words: 'words',

  downloadModule: 'download-module',
  downloadRecord: 'download-record',
  copyCode: 'copy-code',
} as const;
