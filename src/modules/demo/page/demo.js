import { Cable } from './cable.js';
import { openDropSimulator } from './drop.js';
import { byId } from './page.js';
import { openShop } from './shopper.js';

const stateTexts = { connecting: 'Connecting', open: 'Live', closed: 'Connection lost; coming back' };

const tabs = [byId('tab-shop'), byId('tab-drop')];

function select(tab) {
  for (const each of tabs) {
    const isSelected = each === tab;
    each.setAttribute('aria-selected', String(isSelected));
    each.tabIndex = isSelected ? 0 : -1;
    byId(each.getAttribute('aria-controls')).hidden = !isSelected;
  }
  history.replaceState(null, '', `#${tab.getAttribute('aria-controls')}`);
}

function selectWithArrows(event) {
  if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
  const other = tabs[(tabs.indexOf(event.currentTarget) + 1) % tabs.length];
  select(other);
  other.focus();
}

for (const tab of tabs) {
  tab.addEventListener('click', () => select(tab));
  tab.addEventListener('keydown', selectWithArrows);
}
if (location.hash === '#drop') select(byId('tab-drop'));

const live = byId('live');
const cable = new Cable((state) => {
  live.dataset.state = state;
  live.textContent = stateTexts[state];
});
cable.connect();
openShop(cable);
openDropSimulator();
